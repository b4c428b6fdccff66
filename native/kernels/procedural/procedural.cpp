#include "kernels/procedural/procedural.h"
#include <algorithm>
#include <array>
#include <cmath>
#include "kernels/random.h"

namespace a_infonce::kernels::procedural {
namespace {

using Color = std::array<float, channels>;
struct Direction { float x, y; };

constexpr uint64_t parameters = uint64_t{0x50} << 56, noise = uint64_t{0x51} << 56;  // streams no other room draws from
constexpr uint64_t words_an_image = 128;

/// The image's own sequence of uniform numbers.
class Chance {
 public:
  Chance(uint64_t seed, uint32_t split, uint64_t index) : seed_(seed), stream_(parameters | split), next_(index * words_an_image) {}
  float uniform(float low, float high) { return low + (high - low) * random::uniform(seed_, stream_, next_++); }
  Color color() { return {uniform(0, 1), uniform(0, 1), uniform(0, 1)}; }
  /// A point of the circle by its rational parametrisation: no sine, whose last bit depends on the library.
  Direction direction() {
    const float t = uniform(-1, 1), sign = uniform(0, 1) < 0.5f ? -1.0f : 1.0f, scale = sign / (1 + t * t);
    return {(1 - t * t) * scale, 2 * t * scale};
  }

 private:
  uint64_t seed_, stream_, next_;
};

float distance(const Color& a, const Color& b) {
  return std::max({std::abs(a[0] - b[0]), std::abs(a[1] - b[1]), std::abs(a[2] - b[2])});
}

/// A color that differs from all of `others` by 0.4 in some channel; after eight tries, the last one.
template <size_t N>
Color distinct_color(Chance& chance, const std::array<Color, N>& others) {
  Color color{};
  for (int attempt = 0; attempt < 8; ++attempt) {
    color = chance.color();
    if (std::all_of(others.begin(), others.end(), [&](const Color& other) { return distance(color, other) >= 0.4f; })) break;
  }
  return color;
}

float unit(float x) { return std::min(std::max(x, 0.0f), 1.0f); }

/// Signed depth inside the shape of radius 1 at (x, y): positive inside, in units of the radius.
float depth(int64_t shape, float x, float y) {
  const float ax = std::abs(x), ay = std::abs(y);
  switch (shape) {
    case 0: return 0.9f - std::sqrt(x * x + y * y);
    case 1: return 0.8f - std::max(ax, ay);
    case 2: return std::min(0.55f - y, 0.55f + 0.5f * y - 0.8660254f * ax);
    case 3: return std::max(std::min(0.28f - ax, 1.0f - ay), std::min(0.28f - ay, 1.0f - ax));
    default: return 0.2f - std::abs(std::sqrt(x * x + y * y) - 0.8f);
  }
}

}  // namespace

void draw(uint8_t* out, int64_t side, uint64_t seed, uint32_t split, uint64_t index) {
  const int64_t kind = label(static_cast<int64_t>(index)), shape = kind % 5, pixels = side * side;
  const bool striped = kind >= 5;
  Chance chance(seed, split, index);

  // Sizes are in pixels of a 32-pixel image.
  const float unit_length = static_cast<float>(side) / 32;
  const Color ground = chance.color(), slope = {chance.uniform(-.25f, .25f), chance.uniform(-.25f, .25f), chance.uniform(-.25f, .25f)};
  const Direction up = chance.direction(), turn = chance.direction(), across = chance.direction();
  const float radius = chance.uniform(8, 12) * unit_length, centre = (static_cast<float>(side) - 1) / 2;
  const float cx = centre + chance.uniform(-5, 5) * unit_length, cy = centre + chance.uniform(-5, 5) * unit_length;
  const float period = chance.uniform(3.5f, 5) * unit_length, phase = chance.uniform(0, 1), roughness = chance.uniform(.02f, .08f);
  const Color ink = distinct_color(chance, std::array<Color, 1>{ground});
  const Color stripe = distinct_color(chance, std::array<Color, 2>{ground, ink});

  for (int64_t i = 0; i < pixels; ++i) {
    const float px = static_cast<float>(i % side), py = static_cast<float>(i / side);
    const float dx = (px - cx) / radius, dy = (py - cy) / radius;
    const float inside = unit(depth(shape, turn.x * dx + turn.y * dy, turn.x * dy - turn.y * dx) * radius + 0.5f);
    const float along = ((px - centre) * up.x + (py - centre) * up.y) / static_cast<float>(side);
    float band = 0;  // 0: ink, 1: stripe
    if (striped) {
      const float t = (px * across.x + py * across.y) / period + phase, wave = std::abs(t - std::floor(t) - 0.5f);  // 0 to .5 and back
      band = unit((wave - 0.25f) * period + 0.5f);
    }
    const random::Block grain = random::block(seed, noise | split, index * static_cast<uint64_t>(pixels) + static_cast<uint64_t>(i));
    for (size_t c = 0; c < channels; ++c) {
      const float below = ground[c] + slope[c] * along, above = ink[c] + (stripe[c] - ink[c]) * band;
      // The sum of two uniforms on [-.5, .5): a triangular density.
      const float rough = static_cast<float>(grain.word[c] >> 16) * 0x1p-16f + static_cast<float>(grain.word[c] & 0xffff) * 0x1p-16f - 1;
      const float value = below + (above - below) * inside + roughness * rough;
      out[static_cast<int64_t>(c) * pixels + i] = static_cast<uint8_t>(unit(value) * 255 + 0.5f);
    }
  }
}

}  // namespace a_infonce::kernels::procedural
