#include "emulator_races.h"
#ifdef A_INFONCE_RACES
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include "emulator.h"

namespace a_infonce::emulator::races {

namespace {

constexpr uint32_t nobody = ~0u, several = nobody - 1;
constexpr int most_copiers = 64, most_threads = 1024;
constexpr size_t in_room = 1024;

/// What has happened to four bytes since the block began. Threads, and copies that count at a barrier, number what they do between two synchronisations; `clock` is that number.
struct Write {
  uint32_t who = nobody, clock = 0, fencer = nobody, fence_clock = 0;
  uint8_t bytes = 0;
};
struct Cell {
  uint64_t launch = 0, block = 0;
  Write writes[2];                           // the last one, and of its other bytes the one before
  uint32_t reader = nobody, read_clock = 0;  // since then: the one, or several
  uint32_t* reads = nullptr;                 // of several, by thread: 16 * clock + bytes
  uint8_t was_read = 0;                      // bytes
  uint8_t read = 0;                          // by this block, whoever knows
  uint8_t written_before = 0, read_before = 0;  // by other blocks of the launch
};

struct Global {
  uintptr_t word = 0;
  Cell cell;
};

struct State {
  uint64_t launch = 0, block = 0;
  int threads = 0;
  const char* shared = nullptr;
  std::vector<Cell> cells;      // of shared memory
  std::vector<Global> globals;  // by a hash of the word's address
  size_t used = 0;
  std::vector<uint32_t> clocks; // [threads, width]: what each thread knows of others,
  std::vector<uint32_t> common; // and what all know
  std::map<Key, std::vector<uint32_t>> left;
  std::map<Key, uint32_t> copiers;
  std::vector<std::unique_ptr<uint32_t[]>> room;  // for Cell::reads, of `in_room` cells each
  size_t taken = 0;
  struct {
    const char* at = nullptr;
    size_t bytes;
    char before[16];
    std::string what;
  } suspect;
  size_t width() const { return static_cast<size_t>(threads + most_copiers); }
  uint32_t* of(int thread) { return &clocks[static_cast<size_t>(thread) * width()]; }
  bool knows(int thread, uint32_t who, uint32_t when) { return who == static_cast<uint32_t>(thread) || common[who] >= when || of(thread)[who] >= when; }
};
State s;

Cell& global_cell(uintptr_t word) {
  if (2 * (s.used + 1) > s.globals.size()) {
    std::vector<Global> old(std::max<size_t>(1 << 16, 2 * s.globals.size()));
    old.swap(s.globals), s.used = 0;
    for (const Global& each : old)
      if (each.cell.launch == s.launch) global_cell(each.word) = each.cell;
  }
  const size_t mask = s.globals.size() - 1;
  for (size_t at = word * 0x9e3779b97f4a7c15u >> 20 & mask;; at = (at + 1) & mask) {
    Global& each = s.globals[at];
    if (each.cell.launch == s.launch && each.word != word) continue;
    if (each.cell.launch != s.launch) each = {word, {}}, each.cell.launch = s.launch, ++s.used;
    return each.cell;
  }
}

std::string by(uint32_t who) { return who < static_cast<uint32_t>(s.threads) ? "thread " + std::to_string(who) : std::string("a bulk copy"); }
std::string at(const void* p) {
  const auto offset = static_cast<const char*>(p) - s.shared;
  if (s.shared && offset >= 0 && static_cast<size_t>(offset) < 4 * s.cells.size()) return "byte " + std::to_string(offset) + " of shared memory";
  char text[32];
  std::snprintf(text, sizeof text, "%p", p);
  return std::string("global memory at ") + text;
}

/// One access to some bytes of a word. A write that leaves the same value does no harm.
void access(int thread, const char* p, size_t bytes, Cell& cell, uint8_t mask, bool writes, bool suspects) {
  const uint32_t me = static_cast<uint32_t>(thread);
  const uint32_t now = s.of(thread)[me];
  if (cell.block != s.block) {
    const uint8_t written = cell.written_before | cell.writes[0].bytes | cell.writes[1].bytes, read = cell.read_before | cell.read;
    const uint64_t launch = cell.launch;
    cell = {};
    cell.launch = launch, cell.block = s.block;
    if (launch == s.launch && !(s.shared && p >= s.shared && p < s.shared + 4 * s.cells.size())) cell.written_before = written, cell.read_before = read;
  }
  const auto conflict = [&](const std::string& with) {
    const std::string what = "race: thread " + std::to_string(thread) + (writes ? " writes " : " reads ") + at(p) + ", " + with;
    if (!writes || !suspects || bytes > sizeof s.suspect.before) abandon(what);
    if (s.suspect.at) return;
    s.suspect.at = p, s.suspect.bytes = bytes, s.suspect.what = what;
    std::memcpy(s.suspect.before, p, bytes);
  };
  if (cell.written_before & mask) conflict("which another block has written");
  if (writes && cell.read_before & mask) conflict("which another block has read");
  for (const Write& write : cell.writes)
    if (write.bytes & mask && !s.knows(thread, write.who, write.clock)) conflict("which " + by(write.who) + " has written, and nothing orders the two");
  const auto unordered = [&](uint32_t t) { conflict("which " + by(t) + " has read, and nothing orders the two"); };
  if (writes) {
    if (cell.was_read & mask) {
      if (cell.reader != several && !s.knows(thread, cell.reader, cell.read_clock)) unordered(cell.reader);
      for (uint32_t t = 0; cell.reader == several && t < static_cast<uint32_t>(s.threads); ++t) {
        if (cell.reads[t] & mask && !s.knows(thread, t, cell.reads[t] >> 4)) unordered(t);
        cell.reads[t] &= ~uint32_t{mask};
      }
      cell.was_read &= static_cast<uint8_t>(~mask);
      if (!cell.was_read) cell.reader = nobody;
    }
    for (Write& write : cell.writes) write.bytes &= static_cast<uint8_t>(~mask);
    if (Write& last = cell.writes[0]; last.bytes && (last.who != me || last.clock != now)) cell.writes[1] = last, last.bytes = 0;
    cell.writes[0] = {.who = me, .clock = now, .bytes = static_cast<uint8_t>(cell.writes[0].bytes | mask)};
    return;
  }
  cell.read |= mask;
  if (cell.reader < several && s.common[cell.reader] >= cell.read_clock) cell.reader = nobody, cell.was_read = 0;  // all know
  const uint8_t read_until_now = std::exchange(cell.was_read, static_cast<uint8_t>(cell.was_read | mask));
  if (cell.reader == nobody || cell.reader == me || (cell.reader != several && s.knows(thread, cell.reader, cell.read_clock))) {
    cell.reader = me, cell.read_clock = now;
    return;
  }
  if (cell.reader != several) {
    if (s.taken == in_room * s.room.size()) s.room.push_back(std::make_unique_for_overwrite<uint32_t[]>(in_room * most_threads));
    cell.reads = s.room[s.taken / in_room].get() + s.taken % in_room * static_cast<size_t>(s.threads), ++s.taken;
    std::memset(cell.reads, 0, static_cast<size_t>(s.threads) * sizeof(uint32_t));
    cell.reads[cell.reader] = 16 * cell.read_clock + read_until_now, cell.reader = several;
  }
  cell.reads[me] = 16 * now + ((s.common[me] >= cell.reads[me] >> 4 ? 0 : cell.reads[me] & 15) | mask);
}

template <typename F>
void each_word(const void* memory, size_t bytes, const F& f) {
  const auto first = reinterpret_cast<uintptr_t>(memory), end = first + bytes;
  for (uintptr_t word = first / 4; 4 * word < end; ++word) {
    uint8_t mask = 0;
    for (uintptr_t byte = std::max(first, 4 * word); byte < std::min(end, 4 * word + 4); ++byte) mask |= static_cast<uint8_t>(1 << byte % 4);
    const auto offset = static_cast<int64_t>(4 * word - reinterpret_cast<uintptr_t>(s.shared));
    f(s.shared && offset >= 0 && offset < static_cast<int64_t>(4 * s.cells.size()) ? s.cells[static_cast<size_t>(offset) / 4] : global_cell(word), mask);
  }
}

}  // namespace

void meet_all() {
  for (int t = 0; t < s.threads; ++t) {
    uint32_t* const known = s.of(t);
    s.common[t] = known[t]++;
    for (size_t copier = static_cast<size_t>(s.threads); copier < s.width(); ++copier) s.common[copier] = std::max(s.common[copier], known[copier]);
  }
}
void begin_launch() {
  ++s.launch, s.used = 0;
}
void begin_block(int threads, const void* shared, size_t bytes) {
  ++s.block, s.shared = static_cast<const char*>(shared), s.taken = 0, s.suspect.at = nullptr;
  s.cells.resize((bytes + 3) / 4);
  if (threads != s.threads) {
    s.threads = threads;
    s.clocks.assign(static_cast<size_t>(threads) * s.width(), 0), s.common.assign(s.width(), 0);
  }
  s.left.clear(), s.copiers.clear();
  meet_all();
}

void settle() {
  if (!s.suspect.at) return;
  const char* const p = std::exchange(s.suspect.at, nullptr);
  if (std::memcmp(p, s.suspect.before, s.suspect.bytes)) abandon(s.suspect.what);
}

namespace {
void join(uint32_t* to, const uint32_t* from, size_t size) {
  for (size_t k = 0; k < size; ++k) to[k] = std::max(to[k], from[k]);
}
}  // namespace
void give(int thread, Key key) {
  auto& left = s.left[key];
  left.resize(s.width());
  join(left.data(), s.of(thread), s.width());
  ++s.of(thread)[thread];
}
void take(int thread, Key key) {
  if (const auto left = s.left.find(key); left != s.left.end()) join(s.of(thread), left->second.data(), s.width());
}
void forget(Key key) { s.left.erase(key); }
void publish(Key key) {
  auto& to = s.left[published(key)];
  to.resize(s.width());
  if (const auto left = s.left.find(key); left != s.left.end()) join(to.data(), left->second.data(), s.width());
  forget(key);
  if (const auto copier = s.copiers.find(key); copier != s.copiers.end()) to[copier->second] = 1 + std::max(to[copier->second], s.common[copier->second]);
}

void read(int thread, const void* p, size_t bytes) {
  each_word(p, bytes, [&](Cell& cell, uint8_t mask) { access(thread, static_cast<const char*>(p), bytes, cell, mask, false, false); });
}
void write(int thread, const void* p, size_t bytes) {
  each_word(p, bytes, [&](Cell& cell, uint8_t mask) { access(thread, static_cast<const char*>(p), bytes, cell, mask, true, false); });
}
void write_by_copy(const void* p, size_t bytes, Key barrier) {
  write(thread(), p, bytes);
  const auto copier = s.copiers.try_emplace(barrier, static_cast<uint32_t>(s.threads) + static_cast<uint32_t>(s.copiers.size())).first->second;
  const auto left = s.left.find(published(barrier));
  const uint32_t clock = 1 + std::max(left == s.left.end() ? 0 : left->second[copier], s.common[copier]);
  each_word(p, bytes, [&](Cell& cell, uint8_t) { cell.writes[0].who = copier, cell.writes[0].clock = clock; });
}
void require_known(const char* what, int first, int count, const void* p, size_t bytes, bool asynchronous) {
  uint32_t writer = nobody, clock = 0;
  each_word(p, bytes, [&](Cell& cell, uint8_t mask) {
    for (const Write& write : cell.writes) {
      if (cell.block != s.block || !(write.bytes & mask) || (write.who == writer && write.clock == clock && (write.fencer != nobody || !asynchronous))) continue;
      const bool by_thread = write.who < static_cast<uint32_t>(s.threads);
      const auto why = [&](int t) { return std::string(what) + ": thread " + std::to_string(t) + " does not know of " + at(p) + " what " + by(write.who) + " has written"; };
      for (int t = first; t < first + count; ++t) {
        if (!s.knows(t, write.who, write.clock)) abandon(why(t));
        if (asynchronous && by_thread && (write.fencer == nobody || !s.knows(t, write.fencer, write.fence_clock))) abandon(why(t) + ": there is no fence.proxy.async between");
      }
      writer = write.who, clock = write.clock;
    }
  });
}
void fence_async() {
  const int me = thread();
  for (Cell& cell : s.cells)
    for (Write& write : cell.writes)
      if (cell.block == s.block && write.bytes && write.who < static_cast<uint32_t>(s.threads) && write.fencer == nobody && s.knows(me, write.who, write.clock))
        write.fencer = static_cast<uint32_t>(me), write.fence_clock = s.of(me)[me];
}

namespace {
void touch(const void* p, size_t bytes, bool writes) {
  if (!in_kernel() || on_stack(p)) return;
  settle();
  each_word(p, bytes, [&](Cell& cell, uint8_t mask) { access(thread(), static_cast<const char*>(p), bytes, cell, mask, writes, true); });
}
}  // namespace

}  // namespace a_infonce::emulator::races

#define A_INFONCE_TOUCH(bytes)                                                                                     \
  void __tsan_read##bytes(void* p) { a_infonce::emulator::races::touch(p, bytes, false); }                        \
  void __tsan_write##bytes(void* p) { a_infonce::emulator::races::touch(p, bytes, true); }                        \
  void __tsan_unaligned_read##bytes(void* p) { a_infonce::emulator::races::touch(p, bytes, false); }              \
  void __tsan_unaligned_write##bytes(void* p) { a_infonce::emulator::races::touch(p, bytes, true); }
extern "C" {
A_INFONCE_TOUCH(1)
A_INFONCE_TOUCH(2)
A_INFONCE_TOUCH(4)
A_INFONCE_TOUCH(8)
A_INFONCE_TOUCH(16)
void __tsan_read_range(void* p, size_t bytes) { a_infonce::emulator::races::touch(p, bytes, false); }
void __tsan_write_range(void* p, size_t bytes) { a_infonce::emulator::races::touch(p, bytes, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
}
#endif
