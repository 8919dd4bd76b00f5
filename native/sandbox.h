// What a thread that moves packets may ask of the kernel.
#pragma once

namespace flannel {

/// Takes from the calling thread what moving packets does not need: all capabilities, since the
/// kernel has asked for them when the descriptors were opened, and, by a filter (seccomp(2)), all
/// system calls but those of the packet path, of waiting, of the allocator and of a thread's end.
/// Threads that it would start would have the same; nothing of this can be taken back.
///
/// Any other call fails with ENOSYS. A bug, or a C library with a new habit, is then answered as by
/// an older kernel, with which libraries and this code get along; ending the process would turn a
/// surprise into a host without overlay.
///
/// The filter is for x86-64 and arm64. It is left out in builds with AddressSanitizer or
/// ThreadSanitizer, whose runtimes make calls of their own, and where the kernel has none.
void confine_dataplane_thread() noexcept;

}  // namespace flannel
