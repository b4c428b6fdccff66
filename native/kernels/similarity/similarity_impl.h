// The kernels of similarity.h, compiled once an instruction set. See cpu/vector.h for why nothing of std:: is used here.
#include "kernels/cpu/vector.h"
#include "kernels/similarity/similarity.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

// Micro tile: micro_rows x (micro_vectors vectors) of accumulators, chosen to fill the registers.
constexpr int micro_rows = 6;
constexpr int micro_vectors = registers == 32 ? 4 : 2;
template <typename T> constexpr int panel_columns = micro_vectors * lanes<T>;
constexpr int micro_tiles = block_rows / micro_rows;
constexpr double log2_e = 1.4426950408889634, ln_2 = 0.6931471805599453;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename T>
void pack(const T* z, int64_t n, int64_t d, int64_t first, int64_t last, T* panels, T* rows) {
  constexpr int width = panel_columns<T>;
  const int64_t padded_d = round_up(d, lane_multiple);
  for (int64_t j0 = first * tile_columns; j0 < last * tile_columns; j0 += width) {
    T* panel = panels + j0 * d;
    for (int j = 0; j < width; ++j)
      for (int64_t k = 0; k < d; ++k) panel[k * width + j] = j0 + j < n ? z[(j0 + j) * d + k] : T(0);
  }
  for (int64_t j = first * tile_columns; j < smaller(n, last * tile_columns); ++j)
    for (int64_t k = 0; k < padded_d; ++k) rows[j * padded_d + k] = k < d ? z[j * d + k] : T(0);
}

/// s [micro_rows, panel_columns] (row stride tile_columns) = a [d, micro_rows]^T b [d, panel_columns].
template <typename T>
inline void multiply(const T* __restrict a, const T* __restrict b, int64_t d, T* __restrict s) {
  Vector<T> c[micro_rows][micro_vectors] = {};
  for (int64_t k = 0; k < d; ++k) {
    Vector<T> x[micro_vectors];
#pragma GCC unroll 8
    for (int v = 0; v < micro_vectors; ++v) x[v] = load(b + k * panel_columns<T> + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < micro_rows; ++r) {
      const Vector<T> y = splat(a[k * micro_rows + r]);
#pragma GCC unroll 8
      for (int v = 0; v < micro_vectors; ++v) c[r][v] = fma(y, x[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < micro_vectors; ++v) store(s + r * tile_columns + v * lanes<T>, c[r][v]);
}

/// g [micro_rows, vectors] += w [micro_rows, count] (row stride tile_columns) z [count, vectors]; g and z have row stride `stride`.
template <typename T, int vectors>
inline void accumulate(const T* __restrict w, const T* __restrict z, int64_t count, int64_t stride, T* __restrict g) {
  Vector<T> c[micro_rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) c[r][v] = load(g + r * stride + v * lanes<T>);
  for (int64_t j = 0; j < count; ++j) {
    Vector<T> x[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) x[v] = load(z + j * stride + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < micro_rows; ++r) {
      const Vector<T> y = splat(w[r * tile_columns + j]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) c[r][v] = fma(y, x[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(g + r * stride + v * lanes<T>, c[r][v]);
}

template <typename T>
inline void accumulate_row(const T* w, const T* z, int64_t count, int64_t stride, T* g) {
  int64_t k = 0;
  for (; k + panel_columns<T> <= stride; k += panel_columns<T>) accumulate<T, micro_vectors>(w, z + k, count, stride, g + k);
  for (; k < stride; k += lanes<T>) accumulate<T, 1>(w, z + k, count, stride, g + k);
}

// What a range of rows or columns has in common, so that most tiles need no test per pair.
struct Range {
  int32_t first_group, last_group;
  bool clean, adversarial;  // has rows of that kind
};
inline Range range_of(const int32_t* codes, int64_t count) {
  Range range{codes[0] >> 1, codes[0] >> 1, false, false};
  for (int64_t i = 0; i < count; ++i) {
    const int32_t group = codes[i] >> 1;
    range.first_group = group < range.first_group ? group : range.first_group;
    range.last_group = group > range.last_group ? group : range.last_group;
    (codes[i] & 1 ? range.adversarial : range.clean) = true;
  }
  return range;
}
enum class Pairs { None, SameKind, CrossKind, BothKinds, Tested };  // selected pairs of a tile; Tested: pair by pair
inline Pairs classify(const Range& rows, const Range& columns, int32_t selection, bool partial) {
  if (rows.first_group <= columns.last_group && columns.first_group <= rows.last_group) return Pairs::Tested;
  const bool same = (rows.clean && columns.clean) || (rows.adversarial && columns.adversarial);
  const bool cross = (rows.clean && columns.adversarial) || (rows.adversarial && columns.clean);
  const bool wanted_same = same && (selection & NegativeSameKind), wanted_cross = cross && (selection & NegativeCrossKind);
  if (!wanted_same && !wanted_cross) return Pairs::None;
  if (partial || wanted_same != same || wanted_cross != cross) return Pairs::Tested;
  return !cross ? Pairs::SameKind : !same ? Pairs::CrossKind : Pairs::BothKinds;
}

/// The test of one row against vectors of columns.
template <typename T>
struct Test {
  Mask<T> code, row, n, negative_same, negative_cross, positive_same, positive_cross;
  const int32_t* codes;
  Test(const Matrix<T>& z, int32_t selection, int64_t i)
      : code(Mask<T>{} + z.codes[i]), row(Mask<T>{} + static_cast<int32_t>(i)), n(Mask<T>{} + static_cast<int32_t>(z.n)),
        negative_same(Mask<T>{} - !!(selection & NegativeSameKind)), negative_cross(Mask<T>{} - !!(selection & NegativeCrossKind)),
        positive_same(Mask<T>{} - !!(selection & PositiveSameKind)), positive_cross(Mask<T>{} - !!(selection & PositiveCrossKind)), codes(z.codes) {}
  Mask<T> cross(int64_t j) const { return -((code ^ load_integers<T>(codes + j)) & 1); }
  Mask<T> selected(int64_t j) const {
    const Mask<T> difference = code ^ load_integers<T>(codes + j), cross = -(difference & 1), positive = (difference >> 1) == 0;
    const Mask<T> column = Mask<T>{} + static_cast<int32_t>(j) + iota<T>();
    const Mask<T> wanted = positive ? (cross ? positive_cross : positive_same) : (cross ? negative_cross : negative_same);
    return wanted & (column != row) & (column < n);
  }
};
template <typename T>
inline Vector<T> keep(Mask<T> mask, Vector<T> v) { return (Vector<T>)((Mask<T>)v & mask); }

/// Visits the tiles of one block of rows: `visitor.row(r, i, s, j0, pairs)` gets the raw products of row i = first + r with columns j0 .. j0 + tile_columns
/// and, where Gradient, leaves there the weights w_ij of gradient_i = sum_j w_ij z_j. `visitor.tile()` follows every tile of columns.
template <bool Gradient, typename T, typename Visitor>
inline void visit(const Matrix<T>& z, int32_t selection, int64_t block, T* workspace, Visitor& visitor, T* gradient = nullptr) {
  const int64_t first = block * block_rows, rows = smaller(block_rows, z.n - first);
  T* a = workspace;
  T* s = a + block_rows * z.d;
  T* g = s + block_rows * tile_columns;
  for (int m = 0; m < micro_tiles; ++m)
    for (int64_t k = 0; k < z.d; ++k)
      for (int r = 0; r < micro_rows; ++r) {
        const int64_t i = m * micro_rows + r;
        a[(m * z.d + k) * micro_rows + r] = i < rows ? z.rows[(first + i) * z.padded_d + k] : T(0);
      }
  for (int64_t x = 0; x < block_rows * tile_columns; ++x) s[x] = 0;
  if constexpr (Gradient)
    for (int64_t x = 0; x < block_rows * z.padded_d; ++x) g[x] = 0;
  Range ranges[micro_tiles];
  const int used = static_cast<int>((rows + micro_rows - 1) / micro_rows);
  for (int m = 0; m < used; ++m) ranges[m] = range_of(z.codes + first + m * micro_rows, smaller(micro_rows, rows - m * micro_rows));

  for (int64_t j0 = 0; j0 < z.n; j0 += tile_columns) {
    const int64_t columns = smaller(tile_columns, z.n - j0);
    const Range column_range = range_of(z.codes + j0, columns);
    Pairs pairs[micro_tiles];
    for (int m = 0; m < used; ++m) {
      pairs[m] = classify(ranges[m], column_range, selection, columns < tile_columns);
      if (pairs[m] == Pairs::None) continue;
      T* tile = s + m * micro_rows * tile_columns;
      for (int64_t j = 0; j < tile_columns; j += panel_columns<T>) multiply(a + m * micro_rows * z.d, z.panels + (j0 + j) * z.d, z.d, tile + j);
      for (int64_t i = m * micro_rows; i < smaller(rows, (m + 1) * micro_rows); ++i) visitor.row(i, first + i, s + i * tile_columns, j0, pairs[m]);
    }
    visitor.tile();
    if constexpr (Gradient)
      for (int m = 0; m < used; ++m)
        if (pairs[m] != Pairs::None)
          accumulate_row(s + m * micro_rows * tile_columns, z.rows + j0 * z.padded_d, columns, z.padded_d, g + m * micro_rows * z.padded_d);
  }
  if constexpr (Gradient)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < z.d; ++k) gradient[(first + i) * z.d + k] = static_cast<T>(z.scale) * g[i * z.padded_d + k];
}

/// Sums of T in vectors over a few tiles, then in double.
template <typename T, int count>
struct Sums {
  Vector<T> partial[block_rows][count] = {};
  double total[block_rows][count] = {};
  int tiles = 0;
  void tile() {
    if (++tiles == 16) flush();
  }
  void flush() {
    tiles = 0;
    for (int i = 0; i < block_rows; ++i)
      for (int p = 0; p < count; ++p) total[i][p] += sum<T>(partial[i][p]), partial[i][p] = Vector<T>{};
  }
};

// ---- log moments ------------------------------------------------------------------------------------------------------------------------

template <typename T, int count>
struct Exponentials {  // e_p = e^{p (s - bound)}, from the raw product
  Vector<T> slope[2], offset[2];
  bool square;
  Exponentials(double scale, const double* powers, double bound) : square(count == 2 && powers[1] == 2 * powers[0]) {
    for (int p = 0; p < count; ++p) slope[p] = splat(static_cast<T>(powers[p] * scale * log2_e)), offset[p] = splat(static_cast<T>(-powers[p] * bound * log2_e));
  }
  void operator()(Vector<T> product, Vector<T>* e) const {
    e[0] = exp2(fma(product, slope[0], offset[0]));
    if constexpr (count == 2) e[1] = square ? e[0] * e[0] : exp2(fma(product, slope[1], offset[1]));
  }
};

template <typename T, int count>
struct BoundedLogMoments {
  const Matrix<T>& z;
  const LogMoments<T>& task;
  Exponentials<T, count> exponentials;
  Sums<T, count> sums;
  void row(int64_t r, int64_t i, T* s, int64_t j0, Pairs pairs) { pairs == Pairs::Tested ? visit<true>(r, i, s, j0) : visit<false>(r, i, s, j0); }
  template <bool tested>
  void visit(int64_t r, int64_t i, T* s, int64_t j0) {
    const Test<T> test(z, task.selection, i);
    Vector<T> total[count] = {};
#pragma GCC unroll 4
    for (int j = 0; j < tile_columns; j += lanes<T>) {
      Vector<T> e[count];
      exponentials(load(s + j), e);
      for (int p = 0; p < count; ++p) total[p] += tested ? keep<T>(test.selected(j0 + j), e[p]) : e[p];
    }
    for (int p = 0; p < count; ++p) sums.partial[r][p] += total[p];
  }
  void tile() { sums.tile(); }
  void finish(int64_t first) {
    sums.flush();
    for (int64_t i = 0; i < smaller(block_rows, z.n - first); ++i)
      for (int p = 0; p < count; ++p) task.log_sums[p * z.n + first + i] = task.powers[p] * task.bound + __builtin_log(sums.total[i][p]);
  }
};

template <typename T, int count>
struct RunningLogMoments {
  const Matrix<T>& z;
  const LogMoments<T>& task;
  T maxima[block_rows];
  double total[block_rows][count] = {};
  static constexpr T lowest = T(-1e30);
  RunningLogMoments(const Matrix<T>& z, const LogMoments<T>& task) : z(z), task(task) {
    for (T& m : maxima) m = lowest;
  }
  void row(int64_t r, int64_t i, T* s, int64_t j0, Pairs) {
    const Test<T> test(z, task.selection, i);
    const Vector<T> slope = splat(static_cast<T>(z.scale * log2_e));
    Mask<T> selected[tile_columns / lanes<T>];
    Vector<T> top = splat(lowest);
    for (int j = 0; j < tile_columns; j += lanes<T>) {
      const Mask<T> mask = selected[j / lanes<T>] = test.selected(j0 + j);
      const Vector<T> y = load(s + j) * slope;
      store(s + j, y);
      top = maximum(top, select(mask, y, splat(lowest)));
    }
    const T m = largest<T>(top);
    if (m > maxima[r]) {
      for (int p = 0; p < count; ++p) total[r][p] *= __builtin_exp2(task.powers[p] * (static_cast<double>(maxima[r]) - m));
      maxima[r] = m;
    }
    for (int p = 0; p < count; ++p) {
      Vector<T> e{};
      for (int j = 0; j < tile_columns; j += lanes<T>)
        e += keep<T>(selected[j / lanes<T>], exp2((load(s + j) - maxima[r]) * static_cast<T>(task.powers[p])));
      total[r][p] += sum<T>(e);
    }
  }
  void tile() {}
  void finish(int64_t first) {
    for (int64_t i = 0; i < smaller(block_rows, z.n - first); ++i)
      for (int p = 0; p < count; ++p)
        task.log_sums[p * z.n + first + i] = total[i][p] == 0 ? -__builtin_inf() : ln_2 * task.powers[p] * maxima[i] + __builtin_log(total[i][p]);
  }
};

template <typename T, int count>
void log_moments_of(const Matrix<T>& z, const LogMoments<T>& task, int64_t block, T* workspace) {
  if (task.bounded) {
    BoundedLogMoments<T, count> visitor{z, task, {z.scale, task.powers, task.bound}, {}};
    visit<false>(z, task.selection, block, workspace, visitor);
    visitor.finish(block * block_rows);
  } else {
    RunningLogMoments<T, count> visitor(z, task);
    visit<false>(z, task.selection, block, workspace, visitor);
    visitor.finish(block * block_rows);
  }
}
template <typename T>
void log_moments(const Matrix<T>& z, const LogMoments<T>& task, int64_t block, T* workspace) {
  (task.count == 1 ? log_moments_of<T, 1> : log_moments_of<T, 2>)(z, task, block, workspace);
}

template <typename T, int count, bool bounded>
struct LogMomentsWeights {
  const Matrix<T>& z;
  const LogMomentsGradient<T>& task;
  Exponentials<T, count> exponentials;
  void row(int64_t, int64_t i, T* s, int64_t j0, Pairs pairs) {
    const T factor = task.factor[z.codes[i] & 1];
    if (pairs == Pairs::Tested || (pairs == Pairs::BothKinds && factor != 1)) return visit<true>(i, s, j0, factor);
    visit<false>(i, s, j0, pairs == Pairs::CrossKind ? factor : T(1));
  }
  template <bool tested>
  void visit(int64_t i, T* s, int64_t j0, T factor) {
    const Test<T> test(z, task.selection, i);
    Vector<T> own[count];
    for (int p = 0; p < count; ++p) own[p] = splat(task.own[p][i]);
#pragma GCC unroll 4
    for (int j = 0; j < tile_columns; j += lanes<T>) {
      Vector<T> w{};
      if constexpr (bounded) {
        Vector<T> e[count];
        exponentials(load(s + j), e);
        for (int p = 0; p < count; ++p) w = fma(e[p], own[p] + load(task.other[p] + j0 + j), w);
      } else {
        for (int p = 0; p < count; ++p) {
          const Vector<T> y = load(s + j) * exponentials.slope[p];
          w = fma(own[p], exp2(y - splat(static_cast<T>(log2_e)) * task.log_sums[p][i]), w);
          w = fma(load(task.other[p] + j0 + j), exp2(y - splat(static_cast<T>(log2_e)) * load(task.log_sums[p] + j0 + j)), w);
        }
      }
      if constexpr (tested) w = keep<T>(test.selected(j0 + j), select(test.cross(j0 + j), w * factor, w));
      else w *= factor;
      store(s + j, w);
    }
  }
  void tile() {}
};
template <typename T, int count>
void log_moments_gradient_of(const Matrix<T>& z, const LogMomentsGradient<T>& task, int64_t block, T* workspace) {
  if (task.bounded) {
    LogMomentsWeights<T, count, true> visitor{z, task, {z.scale, task.powers, task.bound}};
    visit<true>(z, task.selection, block, workspace, visitor, task.gradient);
  } else {
    LogMomentsWeights<T, count, false> visitor{z, task, {z.scale, task.powers, 0}};
    visit<true>(z, task.selection, block, workspace, visitor, task.gradient);
  }
}
template <typename T>
void log_moments_gradient(const Matrix<T>& z, const LogMomentsGradient<T>& task, int64_t block, T* workspace) {
  (task.count == 1 ? log_moments_gradient_of<T, 1> : log_moments_gradient_of<T, 2>)(z, task, block, workspace);
}

// ---- hard negatives of the released code ------------------------------------------------------------------------------------------------

template <typename T, bool linear, bool times_e>
struct Phi {  // linear: exponent 1
  Vector<T> exponent, epsilon;
  Vector<T> value(Vector<T> e) const {
    const Vector<T> x = e + epsilon, power = linear ? x : exp2(exponent * log2(x));
    return times_e ? power * e : power;
  }
  Vector<T> derivative(Vector<T> e) const {  // e phi'(e)
    const Vector<T> x = e + epsilon;
    if constexpr (linear) return times_e ? e * (e + x) : e;
    const Vector<T> power = exp2(exponent * log2(x)), ratio = exponent * e / x;
    return times_e ? e * power * (ratio + T(1)) : power * ratio;
  }
};

template <typename T, bool linear, bool times_e>
struct HardSums {
  const Matrix<T>& z;
  const HardMoments<T>& task;
  Exponentials<T, 1> exponentials;
  Phi<T, linear, times_e> phi;
  Sums<T, 1> sums;
  T maxima[block_rows];
  void row(int64_t r, int64_t i, T* s, int64_t j0, Pairs pairs) { pairs == Pairs::Tested ? visit<true>(r, i, s, j0) : visit<false>(r, i, s, j0); }
  template <bool tested>
  void visit(int64_t r, int64_t i, T* s, int64_t j0) {
    const Test<T> test(z, Negatives, i);
    Vector<T> total{}, top = splat(maxima[r]);
    for (int j = 0; j < tile_columns; j += lanes<T>) {
      Vector<T> e;
      exponentials(load(s + j), &e);
      Vector<T> value = phi.value(e * task.relative[i]) * load(task.weights + j0 + j), product = load(s + j);
      if constexpr (tested) {
        const Mask<T> mask = test.selected(j0 + j);
        value = keep<T>(mask, value), product = select(mask, product, top);
      }
      total += value;
      if constexpr (!times_e) top = maximum(top, product);
    }
    sums.partial[r][0] += total;
    maxima[r] = largest<T>(top);
  }
  void tile() { sums.tile(); }
};
template <typename T, bool linear, bool times_e>
void hard_moments_of(const Matrix<T>& z, const HardMoments<T>& task, int64_t block, T* workspace) {
  constexpr double one = 1;
  HardSums<T, linear, times_e> visitor{z, task, {z.scale, &one, task.reference}, {splat(static_cast<T>(task.exponent)), splat(static_cast<T>(task.epsilon))}, {}, {}};
  for (T& m : visitor.maxima) m = -static_cast<T>(__builtin_inf());
  visit<false>(z, Negatives, block, workspace, visitor);
  visitor.sums.flush();
  const int64_t first = block * block_rows;
  for (int64_t i = 0; i < smaller(block_rows, z.n - first); ++i) {
    task.sums[first + i] = visitor.sums.total[i][0];
    if constexpr (!times_e) task.maximum[first + i] = z.scale * visitor.maxima[i];
  }
}

template <typename T, bool linear, bool times_e>
struct HardWeights {
  const Matrix<T>& z;
  const HardMomentsGradient<T>& task;
  Exponentials<T, 1> exponentials;
  Phi<T, linear, times_e> phi;
  Sums<T, 2> sums;
  void row(int64_t r, int64_t i, T* s, int64_t j0, Pairs pairs) { pairs == Pairs::Tested ? visit<true>(r, i, s, j0) : visit<false>(r, i, s, j0); }
  template <bool tested>
  void visit(int64_t r, int64_t i, T* s, int64_t j0) {
    const Test<T> test(z, Negatives, i);
    Vector<T> full{}, detached{};
    for (int j = 0; j < tile_columns; j += lanes<T>) {
      Vector<T> e;
      exponentials(load(s + j), &e);
      const Vector<T> mine = e * task.relative[i], theirs = e * load(task.relative + j0 + j);
      const Vector<T> other = load(task.other + j0 + j);
      Vector<T> w = phi.derivative(mine) * load(task.weights + j0 + j) * task.own[i] + phi.derivative(theirs) * other * task.weights[i];
      Vector<T> value = phi.value(theirs);
      if constexpr (tested) {
        const Mask<T> mask = test.selected(j0 + j);
        w = keep<T>(mask, w), value = keep<T>(mask, value);
      }
      full = fma(value, other, full);
      detached = fma(value, load(task.detached + j0 + j), detached);
      store(s + j, w);
    }
    sums.partial[r][0] += full, sums.partial[r][1] += detached;
  }
  void tile() { sums.tile(); }
};
template <typename T, bool linear, bool times_e>
void hard_moments_gradient_of(const Matrix<T>& z, const HardMomentsGradient<T>& task, int64_t block, T* workspace) {
  constexpr double one = 1;
  HardWeights<T, linear, times_e> visitor{z, task, {z.scale, &one, task.reference}, {splat(static_cast<T>(task.exponent)), splat(static_cast<T>(task.epsilon))}, {}};
  visit<true>(z, Negatives, block, workspace, visitor, task.gradient);
  visitor.sums.flush();
  const int64_t first = block * block_rows;
  for (int64_t i = 0; i < smaller(block_rows, z.n - first); ++i) {
    task.weights_gradient[first + i] = visitor.sums.total[i][0];
    task.detached_weights_gradient[first + i] = visitor.sums.total[i][1];
  }
}
template <typename T>
void hard_moments(const Matrix<T>& z, const HardMoments<T>& task, int64_t block, T* workspace) {
  (task.exponent == 1 ? (task.times_e ? hard_moments_of<T, true, true> : hard_moments_of<T, true, false>)
                      : (task.times_e ? hard_moments_of<T, false, true> : hard_moments_of<T, false, false>))(z, task, block, workspace);
}
template <typename T>
void hard_moments_gradient(const Matrix<T>& z, const HardMomentsGradient<T>& task, int64_t block, T* workspace) {
  (task.exponent == 1 ? (task.times_e ? hard_moments_gradient_of<T, true, true> : hard_moments_gradient_of<T, true, false>)
                      : (task.times_e ? hard_moments_gradient_of<T, false, true> : hard_moments_gradient_of<T, false, false>))(z, task, block, workspace);
}

extern const SimilarityKernels<float> similarity_float;
const SimilarityKernels<float> similarity_float{pack<float>, log_moments<float>, log_moments_gradient<float>, hard_moments<float>, hard_moments_gradient<float>};
extern const SimilarityKernels<double> similarity_double;
const SimilarityKernels<double> similarity_double{pack<double>, log_moments<double>, log_moments_gradient<double>, hard_moments<double>, hard_moments_gradient<double>};

}  // namespace a_infonce::kernels::A_INFONCE_ISA
