// The kernels of similarity.h, compiled once an instruction set, after the file that multiplies. See cpu/vector.h for why nothing of std:: is used here.
namespace a_infonce::kernels::A_INFONCE_ISA {

constexpr double log2_e = 1.4426950408889634, ln_2 = 0.6931471805599453;

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
  const bool meet = rows.first_group <= columns.last_group && columns.first_group <= rows.last_group;
  const bool one_group = meet && rows.first_group == rows.last_group && columns.first_group == columns.last_group;
  if (meet && !one_group) return Pairs::Tested;
  static_assert(PositiveSameKind == NegativeSameKind << 2 && PositiveCrossKind == NegativeCrossKind << 2);
  if (one_group) selection >>= 2;
  const bool same = (rows.clean && columns.clean) || (rows.adversarial && columns.adversarial);
  const bool cross = (rows.clean && columns.adversarial) || (rows.adversarial && columns.clean);
  const bool wanted_same = same && (selection & NegativeSameKind), wanted_cross = cross && (selection & NegativeCrossKind);
  if (!wanted_same && !wanted_cross) return Pairs::None;
  if (partial || wanted_same != same || wanted_cross != cross) return Pairs::Tested;
  return !cross ? Pairs::SameKind : !same ? Pairs::CrossKind : Pairs::BothKinds;
}

/// The test of one row against vectors of columns: selected, no padding and, on the diagonal block, to the right of it (or, both ways, off it).
template <typename T, bool both_ways = false>
struct Test {
  Mask<T> code, row, negative_same, negative_cross, positive_same, positive_cross;
  const int32_t* codes;
  Test(const Matrix<T>& z, int32_t selection, int64_t i)
      : code(Mask<T>{} + z.codes[i]), row(Mask<T>{} + static_cast<int32_t>(i)), negative_same(Mask<T>{} - !!(selection & NegativeSameKind)),
        negative_cross(Mask<T>{} - !!(selection & NegativeCrossKind)), positive_same(Mask<T>{} - !!(selection & PositiveSameKind)),
        positive_cross(Mask<T>{} - !!(selection & PositiveCrossKind)), codes(z.codes) {}
  Mask<T> cross(int64_t j) const { return -((code ^ load_integers<T>(codes + j)) & 1); }
  Mask<T> selected(int64_t j) const {
    const Mask<T> other = load_integers<T>(codes + j), difference = code ^ other, cross = -(difference & 1), positive = (difference >> 1) == 0;
    const Mask<T> column = Mask<T>{} + static_cast<int32_t>(j) + iota<T>();
    const Mask<T> wanted = positive ? (cross ? positive_cross : positive_same) : (cross ? negative_cross : negative_same);
    return wanted & (both_ways ? column != row : column > row) & (other >= 0);
  }
};
template <typename T>
inline Vector<T> keep(Mask<T> mask, Vector<T> v) { return (Vector<T>)((Mask<T>)v & mask); }

/// What the parts of a task select.
struct Selections {
  int count = 0;
  int32_t of[most_parts];
  template <typename Task>
  explicit Selections(const Task& task) {
    for (const Task* part = &task; part; part = part->more) of[count++] = part->selection;
  }
  Selections(Selection selection) : count(1), of{selection} {}
};
/// Whether they select a pair of these blocks.
template <typename T>
inline bool any(const Matrix<T>& z, const Selections& selections, int64_t I, int64_t J) {
  const Range rows = range_of(z.codes + I * block_rows, z.sizes[I]), columns = range_of(z.codes + J * block_rows, z.sizes[J]);
  for (int k = 0; k < selections.count; ++k)
    if (classify(rows, columns, selections.of[k], false) != Pairs::None) return true;
  return false;
}

/// Visits the tiles of micro_rows x tile_columns of a task, those of the upper triangle on the diagonal. `visitor.tile(i, rows, j, s, stride, pairs, part)` gets the
/// raw products of rows i .. i + rows with columns j .. j + tile_columns, pairs of this part of the task or of `several`. Rows and columns are numbered over the whole
/// matrix; I <= J. `weights`, if any, are what the visitor fills: those of tiles without a selected pair become 0 here.
constexpr int several = -1;
template <typename T, typename Visitor>
inline void visit(const Matrix<T>& z, const Selections& selections, int64_t I, int64_t J, const Weights<T>* weights, Visitor& visitor) {
  const int64_t rows = z.sizes[I], columns = z.sizes[J];
  alignas(64) T scratch[micro_rows * tile_columns];
  constexpr int strips = static_cast<int>(block_rows) / micro_rows;
  Range ranges[strips];
  for (int64_t i = 0; i < rows; i += micro_rows) ranges[i / micro_rows] = range_of(z.codes + I * block_rows + i, smaller(micro_rows, rows - i));
  for (int64_t j = 0; j < columns; j += tile_columns) {
    const Range range = range_of(z.codes + J * block_rows + j, smaller(tile_columns, columns - j));
    for (int64_t i = 0; i < rows && (I != J || i < j + tile_columns); i += micro_rows) {
      const bool diagonal = I == J && i + micro_rows > j;
      Pairs pairs = Pairs::None;
      int part = 0;
      for (int k = 0; k < selections.count; ++k) {
        const Pairs here = classify(ranges[i / micro_rows], range, selections.of[k], diagonal || columns - j < tile_columns);
        if (here == Pairs::None) continue;
        part = pairs == Pairs::None ? k : several;
        pairs = part == several || diagonal ? Pairs::Tested : here;
      }
      if (pairs == Pairs::None) {
        for (int64_t r = 0; weights && r < micro_rows; ++r)
          for (int64_t c = 0; c < tile_columns; c += lanes<T>) weights->put(i + r, j + c, Vector<T>{}), weights->put_second(i + r, j + c, Vector<T>{});
        continue;
      }
      T* s = scratch;
      int64_t stride = tile_columns;
      if constexpr (Weights<T>::in_place)
        if (weights) s = weights->first + i * weight_stride + j, stride = weight_stride;
      for (int64_t p = 0; p < tile_columns; p += panel_columns<T>)
        multiply(z, I, i, J, j + p, s + p, stride);
      visitor.tile(I * block_rows + i, smaller(micro_rows, rows - i), J * block_rows + j, s, stride, pairs, part);
    }
    visitor.columns(J * block_rows + j);
  }
}

/// Sums over the pairs of a task for both of its ends: floats over a tile and over its columns, then double.
template <typename T>
struct Sums {
  int64_t first;  // row
  int count;
  Ends ends;
  double* total[2];
  Vector<T> rows[block_rows][2], columns[tile_columns / lanes<T>][2];
  void start(const Matrix<T>& z, int count, double* sums, int64_t I, Ends ends) {
    first = I * block_rows, this->count = count, this->ends = ends, total[0] = sums, total[1] = sums + z.blocks * block_rows;
    __builtin_memset(rows, 0, sizeof rows), __builtin_memset(columns, 0, sizeof columns);
  }
  /// After a tile of columns.
  void flush(int64_t j) {
    if (ends & Second)
      for (int64_t v = 0; v < tile_columns / lanes<T>; ++v)
        for (int p = 0; p < count; ++p)
          for (int l = 0; l < lanes<T>; ++l) total[p][j + v * lanes<T> + l] += static_cast<double>(columns[v][p][l]);
    __builtin_memset(columns, 0, sizeof columns);
  }
  void finish(int64_t size) {
    if (ends & First)
      for (int64_t i = 0; i < size; ++i)
        for (int p = 0; p < count; ++p) total[p][first + i] += sum<T>(rows[i][p]);
  }
};

// ---- log moments ------------------------------------------------------------------------------------------------------------------------

template <typename T>
struct Exponentials {  // e_p = e^{p (s - reference)}, from the raw product; never 0, so that a sum of 0 is one over no pair
  static constexpr T least = sizeof(T) == 4 ? T(0x1p-125) : T(0x1p-1021);  // of exp2
  Vector<T> slope[2], offset[2];
  bool square;
  Exponentials() = default;
  Exponentials(double scale, int count, const double* powers, double reference) : square(count == 2 && powers[1] == 2 * powers[0]) {
    for (int p = 0; p < count; ++p) slope[p] = splat(static_cast<T>(powers[p] * scale * log2_e)), offset[p] = splat(static_cast<T>(-powers[p] * reference * log2_e));
  }
  template <int count>
  void find(Vector<T> product, Vector<T>* e) const {
    e[0] = exp2(fma(product, slope[0], offset[0]));
    if constexpr (count == 2) e[1] = square ? maximum(e[0] * e[0], splat(least)) : exp2(fma(product, slope[1], offset[1]));
  }
};

template <typename T, bool attract>
struct MomentsVisitor {
  struct Part {
    const LogMoments<T>* task;
    Exponentials<T> exponentials;
    Sums<T> sums;
  };
  const Matrix<T>& z;
  Weights<T> weights;
  int64_t I, J;
  int count = 0;
  Part parts[most_parts];
  MomentsVisitor(const Matrix<T>& z, const LogMoments<T>& task, int64_t I, int64_t J, Ends ends, T* workspace) : z(z), weights(workspace), I(I), J(J) {
    for (const LogMoments<T>* part = &task; part; part = part->more, ++count) {
      parts[count].task = part;
      parts[count].exponentials = {z.scale, part->count, part->powers, part->reference};
      parts[count].sums.start(z, part->count, part->sums, I, ends);
    }
  }
  void tile(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride, Pairs pairs, int part) {
    if (part != several) return of(parts[part], i, rows, j, s, stride, pairs);
    for (int k = 0; k < count; ++k) of(parts[k], i, rows, j, s, stride, pairs);
  }
  void of(Part& part, int64_t i, int64_t rows, int64_t j, const T* s, int64_t stride, Pairs pairs) const {
    const bool tested = pairs == Pairs::Tested;
    if (attract || part.task->count == 1) tested ? visit<1, true>(part, i, rows, j, s, stride) : visit<1, false>(part, i, rows, j, s, stride);
    else if constexpr (!attract) tested ? visit<2, true>(part, i, rows, j, s, stride) : visit<2, false>(part, i, rows, j, s, stride);
  }
  template <int count, bool tested>
  void visit(Part& part, int64_t i, int64_t rows, int64_t j, const T* s, int64_t stride) const {
    constexpr int vectors = tile_columns / lanes<T>;
    const Exponentials<T> exponentials = part.exponentials;
    Vector<T> column[vectors][count] = {};
    for (int64_t r = 0; r < rows; ++r) {
      const Test<T> test(z, part.task->selection, i + r);
      Vector<T> total[count] = {};
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        Vector<T> e[count];
        exponentials.template find<count>(load(s + r * stride + v * lanes<T>), e);
        for (int p = 0; p < count; ++p) {
          if constexpr (tested) e[p] = keep<T>(test.selected(j + v * lanes<T>), e[p]);
          total[p] += e[p], column[v][p] += e[p];
        }
        if constexpr (attract) {
          e[0] -= static_cast<T>(part.task->centre);
          if constexpr (tested) e[0] = keep<T>(test.selected(j + v * lanes<T>), e[0]);
          weights.put(i + r - I * block_rows, j + v * lanes<T> - J * block_rows, e[0]);
        }
      }
      for (int p = 0; p < count; ++p) part.sums.rows[i + r - I * block_rows][p] += total[p];
    }
    for (int v = 0; v < vectors; ++v)
      for (int p = 0; p < count; ++p) part.sums.columns[v][p] += column[v][p];
  }
  void columns(int64_t j) {
    for (int k = 0; k < count; ++k) parts[k].sums.flush(j);
  }
};
template <typename T, bool attract>
void log_moments_of(const Matrix<T>& z, const LogMoments<T>& task, int64_t I, int64_t J, Ends ends, T* workspace) {
  const Selections selections(task);
  if (!any(z, selections, I, J)) return;
  MomentsVisitor<T, attract> visitor(z, task, I, J, ends, workspace);
  visit(z, selections, I, J, attract ? &visitor.weights : nullptr, visitor);
  for (int k = 0; k < visitor.count; ++k) visitor.parts[k].sums.finish(z.sizes[I]);
  const auto attracted = static_cast<Ends>(ends & ((I < task.attracted ? First : 0) | (J < task.attracted ? Second : 0)));
  if constexpr (attract) visitor.weights.apply(z, I, J, attracted, true, task.attraction);
}
template <typename T>
void log_moments(const Matrix<T>& z, const LogMoments<T>& task, int64_t I, int64_t J, Ends ends, T* workspace) {
  [[maybe_unused]] const Session session{};
  (task.attraction ? log_moments_of<T, true> : log_moments_of<T, false>)(z, task, I, J, ends, workspace);
}

template <typename T>
struct WeightsVisitor {
  struct Part {
    const LogMomentsGradient<T>* task;
    Exponentials<T> exponentials;
  };
  static constexpr int vectors = tile_columns / lanes<T>;
  const Matrix<T>& z;
  Weights<T> weights;
  int64_t I, J;
  bool agree = true;  // the weights towards both ends
  bool factors;       // across kinds
  int count = 0;
  Part parts[most_parts];
  WeightsVisitor(const Matrix<T>& z, const LogMomentsGradient<T>& task, int64_t I, int64_t J, T* workspace)
      : z(z), weights(workspace), I(I), J(J), factors(task.factor[0] != 1 || task.factor[1] != 1) {
    for (const LogMomentsGradient<T>* part = &task; part; part = part->more, ++count) {
      parts[count].task = part;
      parts[count].exponentials = {z.scale, part->count, part->powers, part->reference};
      for (int p = 0; p < part->count; ++p) agree = agree && same_coefficients(part->own[p], part->other[p], I) && same_coefficients(part->own[p], part->other[p], J);
    }
    // One matrix of weights does for both ends if the tiles are all of one kind or kinds do not matter.
    if (!factors) return;
    const Range rows = range_of(z.codes + I * block_rows, z.sizes[I]), columns = range_of(z.codes + J * block_rows, z.sizes[J]);
    agree = agree && rows.clean == columns.clean && rows.adversarial == columns.adversarial && rows.clean != rows.adversarial;
  }
  /// Whether own and other of a block's rows are the same numbers, so that a pair weighs the same at both ends.
  bool same_coefficients(const T* own, const T* other, int64_t block) const {
    for (int64_t i = block * block_rows; i < block * block_rows + z.sizes[block]; ++i)
      if (own[i] != other[i]) return false;
    return true;
  }
  void tile(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride, Pairs pairs, int part) {
    if (part == several) return of_several(i, rows, j, s, stride);
    const bool tested = pairs == Pairs::Tested || (pairs != Pairs::SameKind && factors), two = parts[part].task->count == 2;
    if (tested) two ? visit<2, true, false>(parts[part], i, rows, j, s, stride) : visit<1, true, false>(parts[part], i, rows, j, s, stride);
    else if (agree) two ? visit<2, false, true>(parts[part], i, rows, j, s, stride) : visit<1, false, true>(parts[part], i, rows, j, s, stride);
    else two ? visit<2, false, false>(parts[part], i, rows, j, s, stride) : visit<1, false, false>(parts[part], i, rows, j, s, stride);
  }
  template <int count, bool tested, bool agree>
  void visit(const Part& part, int64_t i, int64_t rows, int64_t j, const T* s, int64_t stride) const {
    const Part copy = part;
    for (int64_t r = 0; r < rows; ++r)
      row<count, tested, agree>(copy, i + r, j, s + r * stride, [&](int v, Vector<T> first, Vector<T> second) {
        weights.put(i + r - I * block_rows, j + v * lanes<T> - J * block_rows, first);
        if constexpr (!agree) weights.put_second(i + r - I * block_rows, j + v * lanes<T> - J * block_rows, second);
      });
  }
  void of_several(int64_t i, int64_t rows, int64_t j, const T* s, int64_t stride) const {
    for (int64_t r = 0; r < rows; ++r) {
      Vector<T> first[vectors] = {}, second[vectors] = {};
      const auto add = [&](int v, Vector<T> to_first, Vector<T> to_second) { first[v] += to_first, second[v] += to_second; };
      for (int k = 0; k < count; ++k)
        parts[k].task->count == 2 ? row<2, true, false>(parts[k], i + r, j, s + r * stride, add) : row<1, true, false>(parts[k], i + r, j, s + r * stride, add);
      for (int v = 0; v < vectors; ++v) {
        weights.put(i + r - I * block_rows, j + v * lanes<T> - J * block_rows, first[v]);
        weights.put_second(i + r - I * block_rows, j + v * lanes<T> - J * block_rows, second[v]);
      }
    }
  }
  /// put(v, weights towards row i, weights towards the columns) for every vector of columns from j.
  template <int count, bool tested, bool agree, typename Put>
  void row(const Part& part, int64_t i, int64_t j, const T* s, const Put& put) const {
    const LogMomentsGradient<T>& task = *part.task;
    const Test<T> test(z, task.selection, i);
    const bool kind = z.codes[i] & 1;
    const Vector<T> mine = splat(task.factor[kind]), theirs = splat(task.factor[!kind]);  // factors across kinds
    Vector<T> own[count], other[count];
    for (int p = 0; p < count; ++p) own[p] = splat(task.own[p][i]), other[p] = splat(task.other[p][i]);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int64_t c = j + v * lanes<T>;
      Vector<T> e[count], first{}, second{};
      part.exponentials.template find<count>(load(s + v * lanes<T>), e);
      for (int p = 0; p < count; ++p) {
        e[p] -= static_cast<T>(task.centres[p]);
        first = fma(e[p], own[p] + load(task.other[p] + c), first);
        if constexpr (!agree) second = fma(e[p], load(task.own[p] + c) + other[p], second);
      }
      if constexpr (tested) {
        const Mask<T> selected = test.selected(c), cross = test.cross(c);
        first = keep<T>(selected, select(cross, first * mine, first));
        second = keep<T>(selected, select(cross, second * theirs, second));
      }
      put(v, first, second);
    }
  }
  void columns(int64_t) {}
};
template <typename T>
void log_moments_gradient(const Matrix<T>& z, const LogMomentsGradient<T>& task, int64_t I, int64_t J, Ends ends, T* workspace) {
  [[maybe_unused]] const Session session{};
  const Selections selections(task);
  if (!any(z, selections, I, J)) return;
  WeightsVisitor<T> visitor(z, task, I, J, workspace);
  visitor.agree = visitor.agree && ends == BothEnds;
  visit(z, selections, I, J, &visitor.weights, visitor);
  visitor.weights.apply(z, I, J, ends, visitor.agree, task.gradient);
}

#ifndef A_INFONCE_BF16_PARTS  // at such temperatures products in bf16 are no use
// ---- log moments at any temperature: a block of rows against everything -----------------------------------------------------------------

/// Strips of micro_rows x block_rows products of one block of rows with each block of columns, one after the other.
template <typename T, typename Visitor>
inline void visit_strips(const Matrix<T>& z, int32_t selection, int64_t I, T* weights, Visitor& visitor) {
  const Range rows = range_of(z.codes + I * block_rows, z.sizes[I]);
  for (int64_t J = 0; J < z.blocks; ++J) {
    if (classify(rows, range_of(z.codes + J * block_rows, z.sizes[J]), selection, true) == Pairs::None) continue;
    for (int64_t i = 0; i < z.sizes[I]; i += micro_rows) {
      for (int64_t j = 0; j < round_up(z.sizes[J], tile_columns); j += panel_columns<T>)
        multiply(z, I, i, J, j, weights + i * weight_stride + j, weight_stride);
      for (int64_t r = i; r < smaller(z.sizes[I], i + micro_rows); ++r)
        visitor.row(r, I * block_rows + r, weights + r * weight_stride, J * block_rows, round_up(z.sizes[J], tile_columns));
    }
    visitor.block(J);
  }
}

template <typename T, int count>
struct RunningVisitor {
  const Matrix<T>& z;
  const RunningLogMoments<T>& task;
  T maxima[block_rows];
  double total[block_rows][count] = {};
  static constexpr T lowest = T(-1e30);
  RunningVisitor(const Matrix<T>& z, const RunningLogMoments<T>& task) : z(z), task(task) {
    for (T& m : maxima) m = lowest;
  }
  void row(int64_t r, int64_t i, T* s, int64_t j0, int64_t columns) {
    const Test<T, true> test(z, task.selection, i);
    const Vector<T> slope = splat(static_cast<T>(z.scale * log2_e));
    Mask<T> selected[block_rows / lanes<T>];
    Vector<T> top = splat(lowest);
    for (int64_t j = 0; j < columns; j += lanes<T>) {
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
      for (int64_t j = 0; j < columns; j += lanes<T>)
        e += keep<T>(selected[j / lanes<T>], exp2((load(s + j) - maxima[r]) * static_cast<T>(task.powers[p])));
      total[r][p] += sum<T>(e);
    }
  }
  void block(int64_t) {}
};
template <typename T, int count>
void running_log_moments_of(const Matrix<T>& z, const RunningLogMoments<T>& task, int64_t I, T* workspace) {
  RunningVisitor<T, count> visitor(z, task);
  visit_strips(z, task.selection, I, workspace, visitor);
  for (int64_t i = 0; i < z.sizes[I]; ++i)
    for (int p = 0; p < count; ++p)
      task.log_sums[(p * z.blocks + I) * block_rows + i] =
          visitor.total[i][p] == 0 ? -__builtin_inf() : ln_2 * task.powers[p] * visitor.maxima[i] + __builtin_log(visitor.total[i][p]);
}
template <typename T>
void running_log_moments(const Matrix<T>& z, const RunningLogMoments<T>& task, int64_t I, T* workspace) {
  (task.count == 1 ? running_log_moments_of<T, 1> : running_log_moments_of<T, 2>)(z, task, I, workspace);
}

template <typename T, int count>
struct RunningWeights {
  const Matrix<T>& z;
  const RunningLogMomentsGradient<T>& task;
  int64_t I;
  T* weights;
  void row(int64_t, int64_t i, T* s, int64_t j0, int64_t columns) {
    const Test<T, true> test(z, task.selection, i);
    const T factor = task.factor[z.codes[i] & 1];
    for (int64_t j = 0; j < columns; j += lanes<T>) {
      Vector<T> w{};
      for (int p = 0; p < count; ++p) {
        const Vector<T> y = load(s + j) * static_cast<T>(task.powers[p] * z.scale * log2_e);
        w = fma(splat(task.own[p][i]), exp2(y - splat(static_cast<T>(log2_e) * task.log_sums[p][i])), w);
        w = fma(load(task.other[p] + j0 + j), exp2(y - splat(static_cast<T>(log2_e)) * load(task.log_sums[p] + j0 + j)), w);
      }
      store(s + j, keep<T>(test.selected(j0 + j), select(test.cross(j0 + j), w * factor, w)));
    }
  }
  void block(int64_t J) {
    const int64_t width = block_rows * z.padded_d;
    accumulate<weight_stride, 1>(weights, z.rows + J * width, z.sizes[I], z.sizes[J], z.padded_d, false, task.gradient + I * width);
  }
};
template <typename T>
void running_log_moments_gradient(const Matrix<T>& z, const RunningLogMomentsGradient<T>& task, int64_t I, T* workspace) {
  const auto run = [&](auto visitor) { visit_strips(z, task.selection, I, workspace, visitor); };
  task.count == 1 ? run(RunningWeights<T, 1>{z, task, I, workspace}) : run(RunningWeights<T, 2>{z, task, I, workspace});
}
#endif

// ---- hard negatives of the released code ------------------------------------------------------------------------------------------------

template <typename T, bool linear>
struct Phi {  // linear: exponent 1
  Vector<T> exponent, epsilon;
  explicit Phi(const HardExponential<T>& e) : exponent(splat(static_cast<T>(e.exponent))), epsilon(splat(static_cast<T>(e.epsilon))) {}
  Vector<T> value(Vector<T> e, bool times_e) const {
    const Vector<T> x = e + epsilon, power = linear ? x : exp2(exponent * log2(x));
    return times_e ? power * e : power;
  }
  Vector<T> derivative(Vector<T> e, bool times_e) const {  // e phi'(e)
    const Vector<T> x = e + epsilon;
    if constexpr (linear) return times_e ? e * (e + x) : e;
    const Vector<T> power = exp2(exponent * log2(x)), ratio = exponent * e / x;
    return times_e ? e * power * (ratio + T(1)) : power * ratio;
  }
};
constexpr double one = 1;
/// body(linear, uniform) as types.
template <typename T, typename Body>
inline void on_kind(const HardExponential<T>& e, Body body) {
  if (e.exponent == 1) e.uniform ? body(Constant<true>{}, Constant<true>{}) : body(Constant<true>{}, Constant<false>{});
  else e.uniform ? body(Constant<false>{}, Constant<true>{}) : body(Constant<false>{}, Constant<false>{});
}

template <typename T, bool linear, bool uniform, int count>
struct HardSums {
  const Matrix<T>& z;
  const HardMoments<T>& task;
  Exponentials<T> exponentials;
  Phi<T, linear> phi;
  Sums<T> sums;
  Vector<T> top_rows[block_rows], top_columns[tile_columns / lanes<T>];
  static Vector<T> lowest() { return splat(-static_cast<T>(__builtin_inf())); }
  void tile(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride, Pairs pairs, int) { pairs == Pairs::Tested ? visit<true>(i, rows, j, s, stride) : visit<false>(i, rows, j, s, stride); }
  template <bool tested>
  void visit(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride) {
    constexpr int vectors = tile_columns / lanes<T>;
    const T* relative = task.exponential.relative;
    Vector<T> column[vectors][count] = {};
    for (int64_t r = 0; r < rows; ++r) {
      const Test<T> test(z, Negatives, i + r);
      Vector<T> total[count] = {}, weight[count];
      const Vector<T> mine = splat(relative[i + r]);
      for (int k = 0; k < count; ++k) weight[k] = splat(task.weights[k][i + r]);
      for (int v = 0; v < vectors; ++v) {
        const int64_t c = j + v * lanes<T>;
        Vector<T> product = load(s + r * stride + v * lanes<T>), e;
        exponentials.template find<1>(product, &e);
        Vector<T> here, there;  // what row i sums, and row j
        if constexpr (uniform) here = there = phi.value(e, task.times_e);
        else {
          const Vector<T> theirs = load(relative + c);
          here = phi.value(e * (task.transposed ? theirs : mine), task.times_e), there = phi.value(e * (task.transposed ? mine : theirs), task.times_e);
        }
        if constexpr (tested) {
          const Mask<T> mask = test.selected(c);
          here = keep<T>(mask, here), there = keep<T>(mask, there), product = select(mask, product, lowest());
        }
        for (int k = 0; k < count; ++k) total[k] = fma(here, load(task.weights[k] + c), total[k]), column[v][k] = fma(there, weight[k], column[v][k]);
        if (task.maximum) top_rows[i + r - sums.first] = maximum(top_rows[i + r - sums.first], product), top_columns[v] = maximum(top_columns[v], product);
      }
      for (int k = 0; k < count; ++k) sums.rows[i + r - sums.first][k] += total[k];
    }
    for (int v = 0; v < vectors; ++v)
      for (int k = 0; k < count; ++k) sums.columns[v][k] += column[v][k];
  }
  void columns(int64_t j) {
    sums.flush(j);
    for (int v = 0; v < static_cast<int>(tile_columns) / lanes<T>; ++v) {
      if (task.maximum && (sums.ends & Second)) {
        T* at = task.maximum + j + v * lanes<T>;
        store(at, maximum(load(at), top_columns[v]));
      }
      top_columns[v] = lowest();
    }
  }
};
template <typename T, bool linear, bool uniform, int count>
void hard_moments_of(const Matrix<T>& z, const HardMoments<T>& task, int64_t I, int64_t J, Ends ends) {
  HardSums<T, linear, uniform, count> visitor{z, task, {z.scale, 1, &one, task.exponential.reference}, Phi<T, linear>(task.exponential), {}, {}, {}};
  visitor.sums.start(z, count, task.sums, I, ends);
  for (auto& v : visitor.top_rows) v = visitor.lowest();
  for (auto& v : visitor.top_columns) v = visitor.lowest();
  visit(z, Negatives, I, J, static_cast<const Weights<T>*>(nullptr), visitor);
  visitor.sums.finish(z.sizes[I]);
  if (!task.maximum || !(ends & First)) return;
  for (int64_t i = 0; i < z.sizes[I]; ++i) {
    T& m = task.maximum[I * block_rows + i];
    const T top = largest<T>(visitor.top_rows[i]);
    m = top > m ? top : m;
  }
}
template <typename T>
void hard_moments(const Matrix<T>& z, const HardMoments<T>& task, int64_t I, int64_t J, Ends ends, T*) {
  [[maybe_unused]] const Session session{};
  const auto run = [&](auto linear, auto uniform) {
    (task.count == 1 ? hard_moments_of<T, linear.value, uniform.value, 1> : hard_moments_of<T, linear.value, uniform.value, 2>)(z, task, I, J, ends);
  };
  on_kind(task.exponential, run);
}

template <typename T, bool linear, bool uniform, int count>
struct HardWeights {
  const Matrix<T>& z;
  const HardMomentsGradient<T>& task;
  Exponentials<T> exponentials;
  Phi<T, linear> phi;
  Weights<T> weights;
  int64_t I, J;
  void tile(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride, Pairs pairs, int) { pairs == Pairs::Tested ? visit<true>(i, rows, j, s, stride) : visit<false>(i, rows, j, s, stride); }
  template <bool tested>
  void visit(int64_t i, int64_t rows, int64_t j, T* s, int64_t stride) {
    const T* relative = task.exponential.relative;
    for (int64_t r = 0; r < rows; ++r) {
      const Test<T> test(z, Negatives, i + r);
      Vector<T> q[count], own[count], other[count];
      for (int t = 0; t < count; ++t) q[t] = splat(task.terms[t].weights[i + r]), own[t] = splat(task.terms[t].own[i + r]), other[t] = splat(task.terms[t].other[i + r]);
      for (int v = 0; v < static_cast<int>(tile_columns) / lanes<T>; ++v) {
        const int64_t c = j + v * lanes<T>;
        Vector<T> e, here{}, there{};
        exponentials.template find<1>(load(s + r * stride + v * lanes<T>), &e);
        for (int t = 0; t < count; ++t) {
          const auto& term = task.terms[t];
          const Vector<T> mine = phi.derivative(uniform ? e : e * relative[i + r], term.times_e) - static_cast<T>(term.centre);
          const Vector<T> theirs = uniform ? mine : phi.derivative(e * load(relative + c), term.times_e) - static_cast<T>(term.centre);
          const Vector<T> to_row = mine * load(term.weights + c), to_column = theirs * q[t];  // q D of the row's sum, and of the column's
          here += to_row * own[t] + to_column * load(term.other + c);
          there += to_column * load(term.own + c) + to_row * other[t];
        }
        if constexpr (tested) {
          const Mask<T> mask = test.selected(c);
          here = keep<T>(mask, here), there = keep<T>(mask, there);
        }
        weights.put(i + r - I * block_rows, c - J * block_rows, here), weights.put_second(i + r - I * block_rows, c - J * block_rows, there);
      }
    }
  }
  void columns(int64_t) {}
};
template <typename T>
void hard_moments_gradient(const Matrix<T>& z, const HardMomentsGradient<T>& task, int64_t I, int64_t J, Ends ends, T* workspace) {
  [[maybe_unused]] const Session session{};
  const Weights<T> weights(workspace);
  const auto run = [&](auto linear, auto uniform) {
    const auto of = [&](auto visitor) { visit(z, Negatives, I, J, &weights, visitor); };
    const Exponentials<T> exponentials(z.scale, 1, &one, task.exponential.reference);
    const Phi<T, linear.value> phi(task.exponential);
    if (task.count == 1) of(HardWeights<T, linear.value, uniform.value, 1>{z, task, exponentials, phi, weights, I, J});
    else of(HardWeights<T, linear.value, uniform.value, 2>{z, task, exponentials, phi, weights, I, J});
  };
  on_kind(task.exponential, run);
  weights.apply(z, I, J, ends, false, task.gradient);
}

// ---- rows by themselves ------------------------------------------------------------------------------------------------------------------

inline Doubles load_doubles(const double* p) { return load(p); }
inline Doubles load_doubles(const float* p) {
  typedef float Half __attribute__((vector_size(vector_bytes / 2), aligned(4), may_alias));
  typedef float Aligned __attribute__((vector_size(vector_bytes / 2)));
  return __builtin_convertvector(static_cast<Aligned>(*reinterpret_cast<const Half*>(p)), Doubles);
}
inline void store_doubles(double* p, Doubles x) { store(p, x); }
inline void store_doubles(float* p, Doubles x) {
  typedef float Half __attribute__((vector_size(vector_bytes / 2), aligned(4), may_alias));
  typedef float Aligned __attribute__((vector_size(vector_bytes / 2)));
  *reinterpret_cast<Half*>(p) = __builtin_convertvector(x, Aligned);
}
template <typename T, typename U>
double product(const T* x, const U* y, int64_t d) {
  constexpr int width = lanes<double>;
  Doubles total[4] = {};
  int64_t k = 0;
  for (; k + 4 * width <= d; k += 4 * width)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) total[v] = fma(load_doubles(x + k + v * width), load_doubles(y + k + v * width), total[v]);
  double result = sum<double>((total[0] + total[1]) + (total[2] + total[3]));
  for (; k < d; ++k) result += static_cast<double>(x[k]) * y[k];
  return result;
}
template <typename T>
double dot(const T* x, const T* y, int64_t d) { return product(x, y, d); }
template <typename T>
void add(double a, const T* x, int64_t d, double* y) {
  int64_t k = 0;
  for (; k + lanes<double> <= d; k += lanes<double>) store(y + k, fma(splat(a), load_doubles(x + k), load(y + k)));
  for (; k < d; ++k) y[k] += a * x[k];
}
template <typename T>
void multiply_row(double a, const T* x, int64_t d, T* y) {
  int64_t k = 0;
  for (; k + lanes<double> <= d; k += lanes<double>) store_doubles(y + k, splat(a) * load_doubles(x + k));
  for (; k < d; ++k) y[k] = static_cast<T>(a * x[k]);
}
template <typename T>
void project(double a, const double* g, double b, const T* x, int64_t d, T* y) {
  const double along = b == 0 ? 0 : b * product(g, x, d);
  int64_t k = 0;
  for (; k + lanes<double> <= d; k += lanes<double>) store_doubles(y + k, splat(a) * load(g + k) - splat(along) * load_doubles(x + k));
  for (; k < d; ++k) y[k] = static_cast<T>(a * g[k] - along * x[k]);
}

#ifndef A_INFONCE_BF16_PARTS
extern const SimilarityKernels<float> similarity_float;
const SimilarityKernels<float> similarity_float{panel_width, row_width, pack<float>, log_moments<float>, log_moments_gradient<float>, hard_moments<float>, hard_moments_gradient<float>,
                                                running_log_moments<float>, running_log_moments_gradient<float>, dot<float>, add<float>, multiply_row<float>, project<float>};
extern const SimilarityKernels<double> similarity_double;
const SimilarityKernels<double> similarity_double{panel_width, row_width, pack<double>, log_moments<double>, log_moments_gradient<double>, hard_moments<double>, hard_moments_gradient<double>,
                                                  running_log_moments<double>, running_log_moments_gradient<double>, dot<double>, add<double>, multiply_row<double>, project<double>};
#else
extern const SimilarityKernels<float> similarity_float;
const SimilarityKernels<float> similarity_float{panel_width, row_width, pack, log_moments<float>, log_moments_gradient<float>, hard_moments<float>, hard_moments_gradient<float>, nullptr, nullptr, dot<float>, add<float>, multiply_row<float>, project<float>};
#endif

}  // namespace a_infonce::kernels::A_INFONCE_ISA
