// Which of the compiled instruction sets the kernels use: the best one the processor has, unless a user or a test chooses another.
#pragma once
#include <string>
#include <vector>

namespace a_infonce::kernels {

enum class InstructionSet { Portable, Avx2, Avx512, Avx512Bf16, AmxBf16 };

/// "portable", "avx2", "avx512", "avx512_bf16" or "amx_bf16" (the last two differ from "avx512" where products in bfloat16 are asked for).
const char* name(InstructionSet set);

/// What this processor and its operating system can run, weakest first; always begins with Portable. Where there is AMX, the first call asks Linux for its tiles.
std::vector<InstructionSet> available();

/// The set in use. The first call reads the environment variable A_INFONCE_ISA and throws ArgumentRange as `force` does.
InstructionSet current();

/// Chooses a set by name for the whole process; "" chooses the best one. ArgumentRange when it is unknown or not available here.
void force(const std::string& name);

/// table[current()], for tables of function pointers in the order of the enumeration.
template <typename Function>
Function* dispatch(Function* portable, Function* avx2, Function* avx512) {
  switch (current()) {
    case InstructionSet::AmxBf16:
    case InstructionSet::Avx512Bf16:
    case InstructionSet::Avx512: return avx512;
    case InstructionSet::Avx2: return avx2;
    default: return portable;
  }
}

}  // namespace a_infonce::kernels
