// The one error type of the native floors. The addon turns it into the typed JavaScript error of the same kind.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace a_infonce {

enum class ErrorKind {
  ArgumentType,   // TypeError: the argument is of the wrong type
  ArgumentRange,  // RangeError: right type, wrong value or shape
  Operator,       // OperatorError: LibTorch refused the call
  NonFinite,      // NonFiniteError: NaN or infinity where a number was needed
  Load,           // LoadError: a library cannot be loaded
  File,           // FileError: a file from outside is damaged or of another kind
  Cancelled,      // the job was aborted
  OutOfMemory,    // OutOfMemoryError
};

struct Error : std::runtime_error {
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  Error(ErrorKind kind, std::string argument, std::string expected, std::string received)
      : std::runtime_error(argument + ": expected " + expected + ", got " + received),
        kind(kind), argument(std::move(argument)), expected(std::move(expected)), received(std::move(received)) {}
  ErrorKind kind;
  std::string argument, expected, received;
  std::string more;  // that follows the message
};

/// Throws ArgumentRange unless `ok`. `expected` and `received` read as in "<argument>: expected <expected>, got <received>".
inline void require_range(bool ok, const char* argument, const std::string& expected, const std::string& received) {
  if (!ok) throw Error(ErrorKind::ArgumentRange, argument, expected, received);
}

}  // namespace a_infonce
