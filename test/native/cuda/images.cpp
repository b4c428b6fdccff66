// The kernels of images and attacks against those of the CPU: random bits, steps in Linf and augmentation equal, containment exact, the rest to rounding. Every block order,
// odd sizes, memory exactly as large as it has to be, numbers that are none.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#include "../check.h"
#include "emulator.h"
#include "kernels/augment/augment_cuda.h"
#include "kernels/fab/fab_cuda.h"
#include "kernels/perturbation/perturbation_cuda.h"
#include "kernels/random.h"
#include "kernels/square/square_cuda.h"

using namespace a_infonce;
using namespace a_infonce::kernels;

namespace {

/// Numbers, the first one `offset` of them past an address that CUDA would give, and nothing behind the last.
template <typename T>
struct Memory {
  explicit Memory(int64_t n, int64_t offset = 0) : n(n) {
    CHECK(posix_memalign(&base, 256, std::max<size_t>(static_cast<size_t>(n + offset) * sizeof(T), 1)) == 0, "memory for %ld", long(n));
    data = static_cast<T*>(base) + offset;
    std::fill(data, data + n, T{});
  }
  Memory(const std::vector<T>& values, int64_t offset = 0) : Memory(static_cast<int64_t>(values.size()), offset) { std::copy(values.begin(), values.end(), data); }
  Memory(const Memory&) = delete;
  ~Memory() { std::free(base); }
  operator T*() const { return data; }
  std::vector<T> values() const { return {data, data + n}; }

  int64_t n;
  void* base = nullptr;
  T* data;
};

template <typename Scalar>
std::vector<Scalar> uniform(int64_t n, uint64_t stream, double low = 0, double high = 1) {
  std::vector<Scalar> x(static_cast<size_t>(n));
  random::fill_uniform(x.data(), n, 7, stream, static_cast<Scalar>(low), static_cast<Scalar>(high - low));
  return x;
}

template <typename T>
void equal(const char* what, const T* found, const std::vector<T>& expected, int64_t size) {
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK(std::memcmp(&found[i], &expected[i], sizeof(T)) == 0, "%s, size %ld: %.17g for %.17g at %zu", what, long(size), double(found[i]), double(expected[i]), i);
}
/// Within a few units in the last place of 1.
template <typename T>
void near(const char* what, const T* found, const std::vector<T>& expected, int64_t size, double tolerance = sizeof(T) == 4 ? 2e-7 : 1e-13) {
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK(std::abs(double(found[i]) - double(expected[i])) <= tolerance, "%s, size %ld: %.17g for %.17g at %zu", what, long(size), double(found[i]), double(expected[i]), i);
}
/// In the box, and of every row of `size` within `epsilon` of x, exactly.
template <typename Scalar>
void inside(const char* what, const Scalar* y, const Scalar* x, int64_t rows, int64_t size, double epsilon, bool l2) {
  for (int64_t row = 0; row < rows; ++row) {
    long double square = 0, largest = 0;
    for (int64_t i = row * size; i < (row + 1) * size; ++i) {
      CHECK(y[i] >= 0 && y[i] <= 1, "%s, size %ld: %g leaves the box", what, long(size), double(y[i]));
      const long double d = std::fabs(static_cast<long double>(y[i]) - x[i]);
      square += d * d, largest = std::max(largest, d);
    }
    CHECK((l2 ? std::sqrt(square) : largest) <= epsilon, "%s, size %ld leaves the ball of %g", what, long(size), epsilon);
  }
}

template <typename Scalar>
void steps() {
  const int64_t rows = 3;
  for (const int64_t size : {1, 2, 5, 33, 257, 1023, 4100})
    for (const int64_t offset : {0, 1})  // whether sixteen bytes are aligned
      for (const StepOrder order : {StepOrder::ProjectThenClamp, StepOrder::ClampThenProject}) {
        if (size > 4096 && (offset == 1 || order == StepOrder::ClampThenProject)) continue;  // larger blocks of threads, once
        const int64_t n = rows * size;
        auto gradients = uniform<Scalar>(n, 2, -1, 1);
        gradients[0] = 0;
        for (int64_t i = size; i < 2 * size; ++i) gradients[i] = static_cast<Scalar>(gradients[i] * (sizeof(Scalar) == 4 ? 1e-30 : 1e-250));  // whose squares vanish
        if (size > 1) std::fill(gradients.begin() + 2 * size, gradients.end(), Scalar{0});
        const Memory<Scalar> x(uniform<Scalar>(n, 1), offset), gradient(gradients, offset), y(uniform<Scalar>(n, 1), offset);
        auto expected = y.values();
        const Memory<bool> bad(rows);
        for (int step = 0; step < 3; ++step) {
          cuda::linf_step<Scalar>(y, gradient, x, rows, size, 0.03, 0.02, order, bad, nullptr);
          linf_step(expected.data(), gradient.data, x.data, n, 0.03, 0.02, order);
          equal("linf_step", y.data, expected, size);
        }
        inside("linf_step", y.data, x.data, rows, size, 0.03, false);
        for (int step = 0; step < 3; ++step) {
          cuda::l2_step<Scalar>(y, gradient, x, rows, size, 0.5, 0.3, order, bad, nullptr);
          for (int64_t row = 0; row < rows; ++row) l2_step(expected.data() + row * size, gradient.data + row * size, x.data + row * size, size, 0.5, 0.3, order);
          near("l2_step", y.data, expected, size);
        }
        inside("l2_step", y.data, x.data, rows, size, 0.5, true);
        for (int64_t row = 0; row < rows; ++row) CHECK(!bad[row], "row %ld of finite gradients", long(row));
        const auto before = y.values();
        gradient[2 * size - 1] = static_cast<Scalar>(NAN), gradient[2 * size] = static_cast<Scalar>(-INFINITY);
        cuda::l2_step<Scalar>(y, gradient, x, rows, size, 0.5, 0.3, order, bad, nullptr);
        CHECK(!bad[0] && bad[1] && bad[2], "l2_step tells of rows 1 and 2 of size %ld", long(size));
        CHECK(std::equal(before.begin() + size, before.end(), y.data + size), "l2_step leaves rows without a direction, size %ld", long(size));
        bad[1] = bad[2] = false;
        cuda::linf_step<Scalar>(y, gradient, x, rows, size, 0.03, 0.02, order, bad, nullptr);
        CHECK(!bad[0] && bad[1] && bad[2], "linf_step tells of rows 1 and 2 of size %ld", long(size));
      }
}

template <typename Scalar>
void starts() {
  const std::vector<int64_t> numbers = {5, int64_t{1} << 40, -1};
  const int64_t rows = 3;
  for (const int64_t size : {1, 3, 64, 257, 4099})
    for (const bool clamped : {true, false})
      for (const uint64_t restart : {0, 3}) {
        const Memory<Scalar> x(uniform<Scalar>(rows * size, 1)), y(rows * size);
        const Memory<int64_t> samples(numbers);
        std::vector<Scalar> expected(static_cast<size_t>(rows * size));
        const auto each_row = [&](auto start) {
          for (int64_t row = 0; row < rows; ++row)
            start(expected.data() + row * size, x.data + row * size, size, 0.3, uint64_t{11}, static_cast<uint64_t>(numbers[row]), restart, clamped);
        };
        cuda::linf_start<Scalar>(y, x, samples, rows, size, 0.3, 11, restart, clamped, nullptr);
        each_row(linf_start<Scalar>);
        equal("linf_start", y.data, expected, size);
        cuda::l2_start<Scalar>(y, x, samples, rows, size, 0.3, 11, restart, clamped, nullptr);
        each_row(l2_start<Scalar>);
        near("l2_start", y.data, expected, size);
        if (clamped) inside("l2_start", y.data, x.data, rows, size, 0.3, true);
        if (!clamped && restart == 0) {
          cuda::fill_uniform<Scalar>(y, samples, rows, size, 11, nullptr);
          for (int64_t row = 0; row < rows; ++row) random::fill_uniform(expected.data() + row * size, size, 11, static_cast<uint64_t>(numbers[row]));
          equal("fill_uniform", y.data, expected, size);
          const Memory<double> noise(rows * size);
          std::vector<double> normals(static_cast<size_t>(rows * size));
          cuda::fill_normal(noise, samples, rows, size, 11, nullptr);
          for (int64_t row = 0; row < rows; ++row) random::fill_normal(normals.data() + row * size, size, 11, static_cast<uint64_t>(numbers[row]));
          near("fill_normal", noise.data, normals, size, 1e-14);
        }
      }
}

template <typename Scalar>
void fab() {
  const int64_t rows = 4;
  for (const int64_t size : {1, 2, 17, 300, 4100})
    for (const FabNorm norm : {FabNorm::Linf, FabNorm::L2}) {
      if (size > 4096 && (norm == FabNorm::Linf || sizeof(Scalar) == 8)) continue;  // larger blocks of threads, once
      const Memory<Scalar> x(uniform<Scalar>(rows * size, 1)), z(uniform<Scalar>(rows * size, 3)), w(uniform<Scalar>(rows * size, 2, -1, 1));
      const Memory<Scalar> f(std::vector<Scalar>{0, Scalar(0.4), Scalar(-0.4), 1000});  // the last: no wall is near enough
      for (int64_t i = 0; i < size; i += 3) w[i] = 0;
      const Memory<bool> bad(rows);
      auto expected = z.values();
      cuda::fab_step<Scalar>(z, x, w, f, rows, size, norm, 1.05, 0.1, bad, nullptr);
      for (int64_t row = 0; row < rows; ++row) {
        CHECK(fab_step(expected.data() + row * size, x.data + row * size, w.data + row * size, double{f[row]}, size, norm, 1.05, 0.1), "finite numbers");
        CHECK(!bad[row], "finite numbers");
      }
      near("fab_step", z.data, expected, size);
      w[size] = static_cast<Scalar>(NAN), f[2] = static_cast<Scalar>(INFINITY);
      const auto before = z.values();
      cuda::fab_step<Scalar>(z, x, w, f, rows, size, norm, 1.05, 0.1, bad, nullptr);
      CHECK(!bad[0] && bad[1] && bad[2] && !bad[3], "fab_step tells of rows 1 and 2 of size %ld", long(size));
      CHECK(std::equal(before.begin() + size, before.begin() + 3 * size, z.data + size), "fab_step leaves them as they are, size %ld", long(size));
    }
}

template <typename Scalar>
void squares() {
  const int64_t rows = 3;
  for (const ImageShape shape : {ImageShape{1, 5, 5}, ImageShape{3, 7, 9}, ImageShape{3, 16, 16}, ImageShape{1, 9, 14}, ImageShape{2, 40, 60}}) {
    const int64_t size = shape.size();
    const Memory<Scalar> x(uniform<Scalar>(rows * size, 1)), best(rows * size), out(rows * size);
    std::vector<Scalar> expected(static_cast<size_t>(rows * size));
    const auto numbers = [&](int64_t count, uint64_t stream) { return uniform<Scalar>(rows * count, stream); };
    {
      const int64_t count = shape.channels * shape.width;
      const Memory<Scalar> u(numbers(count, 2));
      cuda::square_start_linf<Scalar>(best, x, u, rows, shape, 0.1, nullptr);
      for (int64_t row = 0; row < rows; ++row) square_start_linf(expected.data() + row * size, x.data + row * size, u.data + row * count, shape, 0.1);
      equal("square_start_linf", best.data, expected, size);
    }
    for (int64_t side = 1; side <= std::min(shape.height, shape.width); side += 3) {
      const int64_t count = 2 + shape.channels;
      const Memory<Scalar> u(numbers(count, 3));
      u[0] = u[1] = static_cast<Scalar>(1 - 0x1p-24);
      cuda::square_step_linf<Scalar>(out, best, x, u, rows, shape, 0.1, side, nullptr);
      for (int64_t row = 0; row < rows; ++row)
        square_step_linf(expected.data() + row * size, best.data + row * size, x.data + row * size, u.data + row * count, shape, 0.1, side);
      equal("square_step_linf", out.data, expected, size);
      inside("square_step_linf", out.data, x.data, rows, size, 0.1, false);
    }
    const TileGrid grid(shape);
    {
      const int64_t count = grid.rows * grid.columns * (1 + shape.channels);
      const Memory<double> tile(grid.side * grid.side);
      square_tile(tile, grid.side);
      const Memory<Scalar> u(numbers(count, 4));
      cuda::square_start_l2<Scalar>(best, x, u, tile, rows, shape, 0.5, nullptr);
      for (int64_t row = 0; row < rows; ++row) square_start_l2(expected.data() + row * size, x.data + row * size, u.data + row * count, tile.data, shape, 0.5);
      near("square_start_l2", best.data, expected, size);
      inside("square_start_l2", best.data, x.data, rows, size, 0.5, true);
    }
    for (int64_t side = 3; side <= std::min(shape.height, shape.width); side += 4) {
      const int64_t count = 5 + shape.channels;
      const Memory<double> tile(side * side);
      square_tile(tile, side);
      const Memory<Scalar> u(numbers(count, 5));
      cuda::square_step_l2<Scalar>(out, best, x, u, tile, rows, shape, 0.5, side, nullptr);
      for (int64_t row = 0; row < rows; ++row)
        square_step_l2(expected.data() + row * size, best.data + row * size, x.data + row * size, u.data + row * count, tile.data, shape, 0.5, side);
      near("square_step_l2", out.data, expected, size);
      inside("square_step_l2", out.data, x.data, rows, size, 0.5, true);
    }
  }
}

void augmentations() {
  for (const int64_t channels : {1, 3})
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {17, 40}, {90, 70}})
      for (const bool resized : {true, false})
        for (const bool color_first : {true, false})
          for (const int64_t size : {int64_t{1}, int64_t{7}, std::min<int64_t>(std::min(height, width), 40) + 2}) {
            if (!resized && size > std::min(height, width) + 2) continue;
            constexpr int64_t n = 5, images = 3;
            const augment::Pipeline pipeline{size, resized, {0.08, 1}, {0.75, 1.3}, 1, 0.5, 0.9, 0.8, 0.8, 0.8, 0.4, 0.3, color_first};
            const Memory<uint8_t> pixels(images * channels * height * width);
            for (int64_t i = 0; i < pixels.n; ++i) pixels[i] = static_cast<uint8_t>(random::bits(9, 0, static_cast<uint64_t>(i)));
            const Memory<int64_t> indices(std::vector<int64_t>{2, 0, 1, 2, 0});
            const Memory<augment::Choice> choices(n);
            for (int64_t k = 0; k < n; ++k) choices[k] = augment::draw(pipeline, height, width, 1, 2, 0, static_cast<uint64_t>(k));
            if (resized && size == 7) choices[1].top = -2, choices[1].left = width - 1;  // over the edges
            const int64_t floats = channels * size * size;
            const Memory<float> out(n * floats);
            std::vector<float> expected(static_cast<size_t>(n * floats));
            auto scratch = cuda::scratch(choices, n, channels, height, width, size, color_first);
            CHECK((scratch.workspace_bytes > 0) == (scratch.slot_bytes > 48 * 1024 - 64), "shared memory where %zu bytes fit", scratch.slot_bytes);
            for (const bool crowded : {false, true}) {  // views one after the other in fewer slots
              if (crowded) scratch.slots = 2, scratch.workspace_bytes = 2 * scratch.slot_bytes;
              const Memory<char> workspace(static_cast<int64_t>(scratch.workspace_bytes));
              cuda::augment({pixels, channels, height, width, indices, choices, n, size, color_first, out}, scratch, workspace, nullptr);
              for (int64_t k = 0; k < n; ++k)
                augment::apply(pixels + indices[k] * channels * height * width, channels, height, width, choices[k], size, color_first, expected.data() + k * floats);
              equal("augment", out.data, expected, size);
            }
          }
}

}  // namespace

int main() {
  emulator::in_each_order(true, [] {
    steps<float>(), steps<double>();
    starts<float>(), starts<double>();
    fab<float>(), fab<double>();
    squares<float>(), squares<double>();
    augmentations();
  });
  std::puts("passed");
}
