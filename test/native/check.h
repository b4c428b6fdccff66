#pragma once
#include <cstdio>
#include <cstdlib>

/// Ends the program where a kernel is wrong: "<what>" and the numbers.
#define CHECK(condition, ...)                                                  \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);     \
      std::fprintf(stderr, __VA_ARGS__);                                       \
      std::fputc('\n', stderr);                                                \
      std::exit(1);                                                            \
    }                                                                          \
  } while (false)

void check_similarity();
void check_images();
void check_norm();  // on processors with AVX512_BF16
