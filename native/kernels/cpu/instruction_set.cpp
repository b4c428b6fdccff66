#include "kernels/cpu/instruction_set.h"
#include <atomic>
#include <cstdlib>
#include "error.h"
#include <sys/syscall.h>
#include <unistd.h>

namespace a_infonce::kernels {
namespace {

constexpr int unset = -1;
std::atomic<int> chosen{unset};

InstructionSet parse(const std::string& text, const char* argument) {
  const auto sets = available();
  if (text.empty()) return sets.back();
  std::string names;
  for (InstructionSet set : sets) {
    if (text == name(set)) return set;
    names += (names.empty() ? "" : ", ") + std::string(name(set));
  }
  throw Error(ErrorKind::ArgumentRange, argument, "an instruction set of this processor (" + names + ")", "'" + text + "'");
}

/// Linux gives a process the tiles' 8 KiB of state when it asks for them.
bool tiles_permitted() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool permitted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return permitted;
}

}  // namespace

const char* name(InstructionSet set) {
  switch (set) {
    case InstructionSet::AmxBf16: return "amx_bf16";
    case InstructionSet::Avx512Bf16: return "avx512_bf16";
    case InstructionSet::Avx512: return "avx512";
    case InstructionSet::Avx2: return "avx2";
    default: return "portable";
  }
}

std::vector<InstructionSet> available() {
  std::vector<InstructionSet> sets{InstructionSet::Portable};
  __builtin_cpu_init();  // its answers include what the operating system saves (XCR0)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back(InstructionSet::Avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      sets.push_back(InstructionSet::Avx512);
      if (__builtin_cpu_supports("avx512bf16")) {
        sets.push_back(InstructionSet::Avx512Bf16);
        if (__builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && tiles_permitted()) sets.push_back(InstructionSet::AmxBf16);
      }
    }
  }
  return sets;
}

InstructionSet current() {
  int set = chosen.load(std::memory_order_relaxed);
  if (set == unset) {
    const char* text = std::getenv("A_INFONCE_ISA");
    set = static_cast<int>(parse(text ? text : "", "A_INFONCE_ISA"));
    int expected = unset;  // a concurrent force() wins
    if (!chosen.compare_exchange_strong(expected, set)) set = expected;
  }
  return static_cast<InstructionSet>(set);
}

void force(const std::string& name) { chosen.store(static_cast<int>(parse(name, "instruction set"))); }

}  // namespace a_infonce::kernels
