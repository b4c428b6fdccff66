#include "kernels/corruption/corruption.h"
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include "kernels/corruption/filters.h"
#include "kernels/random.h"

namespace a_infonce::kernels::corruption {
namespace {

constexpr uint64_t domain = uint64_t{0x43} << 56;  // streams no other room draws from

/// The numbers of one sample: draw `index` of the purpose `use`.
struct Chance {
  uint64_t key, stream;
  uint64_t of(uint64_t use) const { return stream | use; }
  uint32_t bits(uint64_t use, int64_t index) const { return random::bits(key, of(use), static_cast<uint64_t>(index)); }
  double uniform(uint64_t use, int64_t index, double low = 0, double high = 1) const {
    return low + (high - low) * random::uniform(key, of(use), static_cast<uint64_t>(index));
  }
  /// A whole number of [low, high).
  int64_t integer(uint64_t use, int64_t index, int64_t low, int64_t high) const {
    return low + static_cast<int64_t>(uniform(use, index) * static_cast<double>(high - low));
  }
  Plane uniforms(uint64_t use, int64_t n, double low, double high) const {
    Plane out(static_cast<size_t>(n));
    random::fill_uniform(out.data(), n, key, of(use), low, high - low);
    return out;
  }
  Plane normals(uint64_t use, int64_t n) const {
    Plane out(static_cast<size_t>(n));
    random::fill_normal(out.data(), n, key, of(use));
    return out;
  }
};

struct Shape {
  int64_t channels, height, width;
  int64_t pixels() const { return height * width; }
  int64_t size() const { return channels * pixels(); }
};

/// To bytes as the authors did it, rounded down; `value` in units of one.
template <typename Real>
uint8_t byte(Real value) {
  return static_cast<uint8_t>(std::clamp(value, Real{0}, Real{1}) * Real{255});
}
constexpr double unit(uint8_t value) { return value / 255.0; }
/// cv2.cvtColor(RGB2GRAY) of one pixel.
float luma(float r, float g, float b) { return 0.299f * r + 0.587f * g + 0.114f * b; }

Plane units(const uint8_t* in, int64_t n) {
  Plane out(static_cast<size_t>(n));
  std::transform(in, in + n, out.begin(), unit);
  return out;
}

// --- Noise ---------------------------------------------------------------------------------------------------------------------------------

void gaussian_noise(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr double scale[] = {0.04, 0.06, 0.08, 0.09, 0.10};
  const Plane noise = chance.normals(0, shape.size());
  for (int64_t i = 0; i < shape.size(); ++i) out[i] = byte(unit(in[i]) + scale[level] * noise[static_cast<size_t>(i)]);
}

constexpr double photons[] = {500, 250, 100, 75, 50};  // of a white pixel

/// Each sample white or black with the same probability.
void impulse_noise(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr double amount[] = {0.01, 0.02, 0.03, 0.05, 0.07};
  for (int64_t i = 0; i < shape.size(); i += 4) {
    const random::Block words = random::block(chance.key, chance.of(0), static_cast<uint64_t>(i) / 4);
    for (int64_t k = i; k < std::min(i + 4, shape.size()); ++k) {
      const double u = words.word[k - i] * 0x1p-32;
      out[k] = u < amount[level] ? (u < amount[level] / 2 ? 255 : 0) : in[k];
    }
  }
}

// --- Blur ----------------------------------------------------------------------------------------------------------------------------------

/// A disc, its edge softened.
void defocus_blur(const uint8_t* in, Shape shape, int level, uint8_t* out) {
  constexpr struct { double radius, soft; } parameter[] = {{0.3, 0.4}, {0.4, 0.5}, {0.5, 0.6}, {1, 0.2}, {1.5, 0.1}};
  const auto [radius, soft] = parameter[level];
  constexpr int64_t reach = 2, side = 2 * reach + 1;
  const auto inside = [&](int64_t y, int64_t x) { return static_cast<double>(y * y + x * x) <= radius * radius; };
  int64_t count = 0;
  for (int64_t y = -reach; y <= reach; ++y)
    for (int64_t x = -reach; x <= reach; ++x) count += inside(y, x);
  const double fall = std::exp(-1 / (2 * soft * soft));
  const float next = static_cast<float>(fall / (1 + 2 * fall)), middle = static_cast<float>(1 / (1 + 2 * fall));
  // In float32, as OpenCV has it: the sum is one or a little more, so that rounding down leaves a flat image as it is.
  float rows[side][side] = {}, kernel[side][side] = {};
  const auto blurred = [&](float before, float here, float after) { return here * middle + (before + after) * next; };
  const auto disc = [&](int64_t y, int64_t x) { return inside(y, x) ? 1.0f / static_cast<float>(count) : 0.0f; };
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x) rows[y][x] = blurred(disc(y - reach, x - 1 - reach), disc(y - reach, x - reach), disc(y - reach, x + 1 - reach));
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x) kernel[y][x] = blurred(y > 0 ? rows[y - 1][x] : 0, rows[y][x], y + 1 < side ? rows[y + 1][x] : 0);

  // The plane with its mirrored border around it.
  const int64_t wide = shape.width + 2 * reach;
  Plane padded(static_cast<size_t>((shape.height + 2 * reach) * wide));
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels()) {
    for (int64_t y = 0; y < shape.height + 2 * reach; ++y)
      for (int64_t x = 0; x < wide; ++x)
        padded[static_cast<size_t>(y * wide + x)] = unit(in[mirror(y - reach, shape.height) * shape.width + mirror(x - reach, shape.width)]);
    for (int64_t y = 0; y < shape.height; ++y)
      for (int64_t x = 0; x < shape.width; ++x) {
        double sum = 0;
        for (int64_t i = 0; i < side; ++i)
          for (int64_t k = 0; k < side; ++k) sum += kernel[i][k] * padded[static_cast<size_t>((y + i) * wide + x + k)];
        *out++ = byte(sum);
      }
  }
}

/// Blurred, pixels taken from near by, blurred again. The authors' exchange of two pixels, `x[a], x[b] = x[b], x[a]` on views into one array,
/// copies b to a and leaves b: their published images are made so, and these.
void glass_blur(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double sigma; int64_t delta, rounds; } parameter[] = {{0.05, 1, 1}, {0.25, 1, 1}, {0.4, 1, 1}, {0.25, 1, 2}, {0.4, 1, 2}};
  const auto [sigma, delta, rounds] = parameter[level];
  Plane image = units(in, shape.size());
  const auto blur = [&, sigma = sigma] {
    for (int64_t c = 0; c < shape.channels; ++c) gaussian_filter(image.data() + c * shape.pixels(), shape.height, shape.width, sigma, 4, false);
  };
  blur();
  std::transform(image.begin(), image.end(), out, byte<double>);
  for (int64_t round = 0; round < rounds; ++round)
    for (int64_t y = shape.height - delta; y > delta; --y)
      for (int64_t x = shape.width - delta; x > delta; --x) {
        const int64_t index = 2 * ((round * shape.height + y) * shape.width + x);
        const int64_t from_x = x + chance.integer(0, index, -delta, delta), from_y = y + chance.integer(0, index + 1, -delta, delta);
        for (int64_t c = 0; c < shape.channels; ++c) out[c * shape.pixels() + y * shape.width + x] = out[c * shape.pixels() + from_y * shape.width + from_x];
      }
  image = units(out, shape.size());
  blur();
  std::transform(image.begin(), image.end(), out, byte<double>);
}

void motion_blur(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double radius, sigma; } parameter[] = {{6, 1}, {6, 1.5}, {6, 2}, {8, 2}, {9, 2.5}};
  const double angle = chance.uniform(0, 0, -45, 45);
  Plane blurred(static_cast<size_t>(shape.pixels()));
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels(), out += shape.pixels()) {
    motion_filter(Plane(in, in + shape.pixels()).data(), shape.height, shape.width, parameter[level].radius, parameter[level].sigma, angle, blurred.data());
    std::transform(blurred.begin(), blurred.end(), out, [](double value) { return static_cast<uint8_t>(value); });
  }
}

/// The mean of the image and its enlargements by 1, 1.01, 1.02, ...; in float32.
void zoom_blur(const uint8_t* in, Shape shape, int level, uint8_t* out) {
  constexpr int counts[] = {7, 12, 16, 21, 26};  // numpy.arange(1, 1.06, 0.01) and so on; it reaches 1.06, but not 1.16
  constexpr double step = (1 + 0.01) - 1;
  Plane plane(static_cast<size_t>(shape.pixels())), zoomed(plane.size());
  std::vector<float> sum(plane.size());
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels(), out += shape.pixels()) {
    std::transform(in, in + shape.pixels(), plane.begin(), [](uint8_t value) { return static_cast<float>(unit(value)); });
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (int k = 0; k < counts[level]; ++k) {
      clipped_zoom(plane.data(), shape.height, shape.width, 1 + k * step, zoomed.data());
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<float>(zoomed[i]);
    }
    for (size_t i = 0; i < sum.size(); ++i) out[i] = byte((static_cast<float>(plane[i]) + sum[i]) / static_cast<float>(counts[level] + 1));
  }
}

// --- Weather -------------------------------------------------------------------------------------------------------------------------------

void snow(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double mean, spread, zoom, threshold, radius, sigma, keep; } parameter[] = {
      {0.1, 0.2, 1, 0.6, 8, 3, 0.95}, {0.1, 0.2, 1, 0.5, 10, 4, 0.9}, {0.15, 0.3, 1.75, 0.55, 10, 4, 0.9}, {0.25, 0.3, 2.25, 0.6, 12, 6, 0.85},
      {0.3, 0.3, 1.25, 0.65, 14, 12, 0.8}};
  const auto p = parameter[level];
  Plane flakes = chance.normals(0, shape.pixels()), layer(flakes.size());
  for (double& flake : flakes) flake = p.mean + p.spread * flake;
  clipped_zoom(flakes.data(), shape.height, shape.width, p.zoom, layer.data());
  for (double& flake : layer) flake = flake < p.threshold ? 0 : byte(flake);
  motion_filter(layer.data(), shape.height, shape.width, p.radius, p.sigma, chance.uniform(1, 0, -135, -45), flakes.data());
  const auto keep = static_cast<float>(p.keep), whiten = static_cast<float>(1 - p.keep);
  const auto value = [&](int64_t c, int64_t i) { return static_cast<float>(unit(in[c * shape.pixels() + i])); };
  for (int64_t i = 0; i < shape.pixels(); ++i) {
    const float gray = shape.channels == 3 ? luma(value(0, i), value(1, i), value(2, i)) : value(0, i);
    // The layer, and once more turned by half a circle.
    const double fallen = flakes[static_cast<size_t>(i)] / 255, turned = flakes[static_cast<size_t>(shape.pixels() - 1 - i)] / 255;
    for (int64_t c = 0; c < shape.channels; ++c)
      out[c * shape.pixels() + i] = byte(keep * value(c, i) + whiten * std::max(value(c, i), gray * 1.5f + 0.5f) + fallen + turned);
  }
}

/// Noise on a lattice turned by `angle`, with cells of `cell` pixels that are three times as long, folded so that its middle value becomes a ridge.
void add_ridges(Plane& plane, Shape shape, double cell, double angle, double weight, const Chance& chance, uint64_t use) {
  const double sine = std::sin(angle), cosine = std::cos(angle), middle_x = static_cast<double>(shape.width) / 2, middle_y = static_cast<double>(shape.height) / 2;
  const double reach = std::hypot(middle_x, middle_y) / cell + 1;
  const auto side = static_cast<int64_t>(2 * reach) + 3;
  const Plane lattice = chance.uniforms(use, side * side, 0, 1);
  const auto smooth = [](double t) { return t * t * (3 - 2 * t); };
  for (int64_t y = 0; y < shape.height; ++y)
    for (int64_t x = 0; x < shape.width; ++x) {
      const double right = static_cast<double>(x) - middle_x, down = static_cast<double>(y) - middle_y;
      const double u = (cosine * right + sine * down) / (3 * cell) + reach, v = (cosine * down - sine * right) / cell + reach;
      const auto column = static_cast<int64_t>(u), row = static_cast<int64_t>(v);
      const double s = smooth(u - static_cast<double>(column)), t = smooth(v - static_cast<double>(row));
      const double* at = &lattice[static_cast<size_t>(row * side + column)];
      const double noise = (1 - t) * ((1 - s) * at[0] + s * at[1]) + t * ((1 - s) * at[side] + s * at[side + 1]);
      const double ridge = 1 - std::abs(2 * noise - 1);
      plane[static_cast<size_t>(y * shape.width + x)] += weight * ridge * ridge;
    }
}

/// The authors blend in crops of photographs that cannot be shipped. In their place: needles of ice in directions 60 degrees apart, blue to white.
void frost(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double image, frost; } parameter[] = {{1, 0.2}, {1, 0.3}, {0.9, 0.4}, {0.85, 0.4}, {0.75, 0.45}};
  constexpr double third = 3.14159265358979323846 / 3, cells[] = {9, 5, 3, 1.7};
  constexpr float dark[] = {30, 48, 78}, bright[] = {236, 246, 255};
  Plane ice(static_cast<size_t>(shape.pixels()));
  const double angle = chance.uniform(0, 0, 0, 3 * third);
  for (uint64_t octave = 0; octave < 4; ++octave)
    add_ridges(ice, shape, cells[octave], angle + third * static_cast<double>(chance.integer(0, 1 + static_cast<int64_t>(octave), 0, 3)), 1.0 / (1 << octave), chance, 1 + octave);
  const auto [least, most] = std::minmax_element(ice.begin(), ice.end());
  const double low = *least, range = std::max(*most - low, 1e-9);
  for (int64_t i = 0; i < shape.pixels(); ++i) {
    const auto share = static_cast<float>((ice[static_cast<size_t>(i)] - low) / range);
    float color[3];
    for (int64_t c = 0; c < 3; ++c) color[c] = dark[c] + share * (bright[c] - dark[c]);
    if (shape.channels == 1) color[0] = luma(color[0], color[1], color[2]);
    for (int64_t c = 0; c < shape.channels; ++c) {
      const int64_t k = c * shape.pixels() + i;
      out[k] = static_cast<uint8_t>(std::min(parameter[level].image * in[k] + parameter[level].frost * color[c], 255.0));
    }
  }
}

void fog(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double amount, decay; } parameter[] = {{0.2, 3}, {0.5, 3}, {0.75, 2.5}, {1, 2}, {1.5, 1.75}};
  const auto [amount, decay] = parameter[level];
  const auto side = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(shape.height, shape.width))));
  const Plane map = plasma(side, decay, [&](int64_t i) { return chance.uniform(0, i); });
  const double most = unit(*std::max_element(in, in + shape.size()));
  for (int64_t c = 0; c < shape.channels; ++c)
    for (int64_t y = 0; y < shape.height; ++y)
      for (int64_t x = 0; x < shape.width; ++x)
        *out++ = byte((unit(*in++) + amount * map[static_cast<size_t>(y * side + x)]) * most / (most + amount));
}

// --- Color ---------------------------------------------------------------------------------------------------------------------------------

/// Raises the value of HSV; operations in the order of scikit-image, since what follows rounds down.
void brightness(const uint8_t* in, Shape shape, int level, uint8_t* out) {
  constexpr double amount[] = {0.05, 0.1, 0.15, 0.2, 0.3};
  const int64_t n = shape.pixels();
  for (int64_t i = 0; i < n; ++i) {
    const double r = unit(in[i]), g = shape.channels == 3 ? unit(in[n + i]) : r, b = shape.channels == 3 ? unit(in[2 * n + i]) : r;
    const double most = std::max({r, g, b}), chroma = most - std::min({r, g, b});
    double hue = 0, saturation = 0;
    if (chroma > 0) {
      saturation = chroma / most;
      hue = b == most ? 4 + (r - g) / chroma : g == most ? 2 + (b - r) / chroma : (g - b) / chroma;
      hue /= 6;
      hue -= std::floor(hue);
    }
    const double value = std::clamp(most + amount[level], 0.0, 1.0), sixth = std::floor(hue * 6), f = hue * 6 - sixth;
    const double p = value * (1 - saturation), q = value * (1 - f * saturation), t = value * (1 - (1 - f) * saturation);
    const std::array<double, 3> colors[] = {{value, t, p}, {q, value, p}, {p, value, t}, {p, q, value}, {t, p, value}, {value, p, q}};
    for (int64_t c = 0; c < shape.channels; ++c) out[c * n + i] = byte(colors[static_cast<size_t>(sixth) % 6][static_cast<size_t>(c)]);
  }
}

void contrast(const uint8_t* in, Shape shape, int level, uint8_t* out) {
  constexpr double factor[] = {0.75, 0.5, 0.4, 0.3, 0.15};
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels(), out += shape.pixels()) {
    const double mean = static_cast<double>(std::accumulate(in, in + shape.pixels(), int64_t{0})) / static_cast<double>(shape.pixels()) / 255;
    for (int64_t i = 0; i < shape.pixels(); ++i) out[i] = byte((unit(in[i]) - mean) * factor[level] + mean);
  }
}

// --- Geometry ------------------------------------------------------------------------------------------------------------------------------

/// The value at (y, x), linear between pixels; `outside` says which pixel stands beyond the edge.
template <typename Outside>
float between(const float* plane, int64_t height, int64_t width, double y, double x, Outside outside) {
  const double top = std::floor(y), left = std::floor(x), down = y - top, right = x - left;
  const auto row = static_cast<int64_t>(top), column = static_cast<int64_t>(left);
  const float *upper = plane + outside(row, height) * width, *lower = plane + outside(row + 1, height) * width;
  const int64_t first = outside(column, width), second = outside(column + 1, width);
  return static_cast<float>((1 - down) * ((1 - right) * upper[first] + right * upper[second]) + down * ((1 - right) * lower[first] + right * lower[second]));
}

/// A random affine map, then a smooth field of displacements. Their sizes are shares of the (shorter) side.
void elastic_transform(const uint8_t* in, Shape shape, int level, const Chance& chance, uint8_t* out) {
  constexpr struct { double push, smooth, affine; } parameter[] = {{0, 0, 0.08}, {0.05, 0.2, 0.07}, {0.08, 0.06, 0.06}, {0.1, 0.04, 0.05}, {0.1, 0.03, 0.03}};
  const auto p = parameter[level];
  const int64_t side = std::min(shape.height, shape.width);
  const auto size = static_cast<double>(side), arm = static_cast<double>(side / 3);
  const double middle[] = {static_cast<double>(shape.width / 2), static_cast<double>(shape.height / 2)};
  // Three points move; the image is seen through the map that takes them back.
  const double from[3][2] = {{middle[0] + arm, middle[1] + arm}, {middle[0] + arm, middle[1] - arm}, {middle[0] - arm, middle[1] - arm}};
  double to[3][2], a[2][2];
  for (int64_t k = 0; k < 3; ++k)
    for (int64_t axis = 0; axis < 2; ++axis) to[k][axis] = from[k][axis] + chance.uniform(0, 2 * k + axis, -p.affine * size, p.affine * size);
  const double u[] = {to[0][0] - to[2][0], to[0][1] - to[2][1]}, v[] = {to[1][0] - to[2][0], to[1][1] - to[2][1]}, area = u[0] * v[1] - u[1] * v[0];
  for (int64_t axis = 0; axis < 2; ++axis) {
    const double e = from[0][axis] - from[2][axis], f = from[1][axis] - from[2][axis];
    a[axis][0] = (e * v[1] - f * u[1]) / area, a[axis][1] = (f * u[0] - e * v[0]) / area;
  }
  const auto field = [&](uint64_t use) {
    Plane move = chance.uniforms(use, shape.pixels(), -1, 1);
    gaussian_filter(move.data(), shape.height, shape.width, p.smooth * size, 3, true);
    for (double& each : move) each = static_cast<float>(each * p.push * size);
    return move;
  };
  const Plane across = p.push > 0 ? field(1) : Plane(static_cast<size_t>(shape.pixels())), along = p.push > 0 ? field(2) : across;
  std::vector<float> plane(static_cast<size_t>(shape.pixels())), mapped(plane.size());
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels(), out += shape.pixels()) {
    std::transform(in, in + shape.pixels(), plane.begin(), [](uint8_t value) { return static_cast<float>(unit(value)); });
    for (int64_t y = 0; y < shape.height; ++y)
      for (int64_t x = 0; x < shape.width; ++x) {
        const double dx = static_cast<double>(x) - to[2][0], dy = static_cast<double>(y) - to[2][1];
        mapped[static_cast<size_t>(y * shape.width + x)] = between(plane.data(), shape.height, shape.width,
            from[2][1] + a[1][0] * dx + a[1][1] * dy, from[2][0] + a[0][0] * dx + a[0][1] * dy, mirror);
      }
    for (int64_t y = 0; y < shape.height; ++y)
      for (int64_t x = 0; x < shape.width; ++x) {
        const auto i = static_cast<size_t>(y * shape.width + x);
        out[i] = byte(between(mapped.data(), shape.height, shape.width, static_cast<double>(y) + along[i], static_cast<double>(x) + across[i], reflect));
      }
  }
}

void pixelate(const uint8_t* in, Shape shape, int level, uint8_t* out) {
  constexpr double share[] = {0.95, 0.9, 0.85, 0.75, 0.65};
  const auto height = static_cast<int64_t>(static_cast<double>(shape.height) * share[level]), width = static_cast<int64_t>(static_cast<double>(shape.width) * share[level]);
  std::vector<uint8_t> small(static_cast<size_t>(height * width));
  for (int64_t c = 0; c < shape.channels; ++c, in += shape.pixels(), out += shape.pixels()) {
    box_resize(in, shape.height, shape.width, height, width, small.data());
    box_resize(small.data(), height, width, shape.height, shape.width, out);
  }
}

}  // namespace

Corruption::Corruption(Type type, int severity, uint64_t seed) : type_(type), severity_(severity), seed_(seed) {
  if (type != Type::shot_noise) return;
  for (int value = 0; value < 256; ++value) {
    const double mean = value / 255.0 * photons[severity - 1];
    double term = std::exp(-mean), sum = term;
    std::vector<uint32_t> distribution;
    int64_t k = 0;
    for (; sum * 0x1p32 < 1; sum += term *= mean / static_cast<double>(++k)) {}
    first_.push_back(k);
    for (; sum < 1 - 0x1p-33; sum += term *= mean / static_cast<double>(++k)) distribution.push_back(static_cast<uint32_t>(sum * 0x1p32) - 1);
    poisson_.push_back(std::move(distribution));
  }
}

void Corruption::apply(const uint8_t* in, int64_t channels, int64_t height, int64_t width, uint64_t sample, uint8_t* out) const {
  const Shape shape{channels, height, width};
  const int level = severity_ - 1;
  const Chance chance{random::subseed(seed_, sample), domain | static_cast<uint64_t>(type_) << 16 | static_cast<uint64_t>(severity_) << 8};
  switch (type_) {
    case Type::gaussian_noise: return gaussian_noise(in, shape, level, chance, out);
    case Type::shot_noise:
      for (int64_t i = 0; i < shape.size(); i += 4) {
        const random::Block words = random::block(chance.key, chance.of(0), static_cast<uint64_t>(i) / 4);
        for (int64_t k = i; k < std::min(i + 4, shape.size()); ++k) {
          const std::vector<uint32_t>& distribution = poisson_[in[k]];
          const auto above = std::lower_bound(distribution.begin(), distribution.end(), words.word[k - i]) - distribution.begin();
          out[k] = byte(static_cast<double>(first_[in[k]] + above) / photons[level]);
        }
      }
      return;
    case Type::impulse_noise: return impulse_noise(in, shape, level, chance, out);
    case Type::defocus_blur: return defocus_blur(in, shape, level, out);
    case Type::glass_blur: return glass_blur(in, shape, level, chance, out);
    case Type::motion_blur: return motion_blur(in, shape, level, chance, out);
    case Type::zoom_blur: return zoom_blur(in, shape, level, out);
    case Type::snow: return snow(in, shape, level, chance, out);
    case Type::frost: return frost(in, shape, level, chance, out);
    case Type::fog: return fog(in, shape, level, chance, out);
    case Type::brightness: return brightness(in, shape, level, out);
    case Type::contrast: return contrast(in, shape, level, out);
    case Type::elastic_transform: return elastic_transform(in, shape, level, chance, out);
    case Type::pixelate: return pixelate(in, shape, level, out);
  }
}

}  // namespace a_infonce::kernels::corruption
