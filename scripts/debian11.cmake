# Toolchain: this machine's GCC with the C and C++ libraries of Debian 11 (in the folder A_INFONCE_SYSROOT), so that what is built runs there and on everything later.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSROOT $ENV{A_INFONCE_SYSROOT})
set(libraries ${CMAKE_SYSROOT}/usr/lib/x86_64-linux-gnu)
# GCC would find its own libstdc++ and libc first; in this libc threads are a library of their own.
foreach(kind SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "-L${libraries}/a-infonce -L${libraries} -Wl,--no-as-needed -lpthread -Wl,--as-needed")
endforeach()
