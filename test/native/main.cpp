// Drives every kernel over odd shapes, in memory exactly as large as its contract says, with every instruction set of this machine.
#include "check.h"
#include "kernels/cpu/instruction_set.h"

int main() {
  for (const auto set : a_infonce::kernels::available()) {
    a_infonce::kernels::force(a_infonce::kernels::name(set));
    check_images();
    std::printf("images: %s\n", a_infonce::kernels::name(set));
    if (set == a_infonce::kernels::InstructionSet::Avx512Bf16) check_norm(), std::puts("norm");
  }
  check_similarity();
  std::puts("passed");
}
