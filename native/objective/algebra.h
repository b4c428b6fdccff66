// Checks that the forms share, and the rows' normalisation as operators.
#pragma once
#include <ATen/core/Tensor.h>
#include "objective/options.h"

namespace a_infonce::objective {

/// ArgumentRange on a temperature or hard negatives that cannot be.
void check_weights(const Options& options);

/// ArgumentRange on a temperature at which similarities of rows, the largest square given, have no precision left in the dtype: the error of an exponent is 1.
void check_precision(double largest_square, at::ScalarType dtype, const Options& options);

/// Whether exponentials keep their precision with bfloat16 numbers, or with sums of two of them, for rows of d dimensions and this square: a similarity is a sum of d
/// rounded products. Of 'bf16x3' hard negatives ask more: of a sum about 1, tauPlus takes back what positives weigh, and in form 'advcl' random rows sit on the floor, a kink.
bool bf16_suffices(const Options& options, int64_t d, double square);

/// ArgumentRange where a row's length, which the released code of form `advcl` takes for 1, is `error` off.
void check_lengths(double error, const char* argument);
constexpr double length_error = 1e-3;

/// ArgumentRange on labels without a row that has a positive.
void require_positives(bool any);

/// ArgumentRange on sums that are not those of the clean rows.
void check_sums(bool right);

/// Every row divided by its length; one of zeros stays.
at::Tensor normalized(const at::Tensor& rows);

}  // namespace a_infonce::objective
