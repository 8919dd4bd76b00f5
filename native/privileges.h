// What the threads of this process may do (capabilities(7)), and how to have less of it.
#pragma once

#include <cstdint>

namespace flannel {

/// Bit n stands for capability n of linux/capability.h.
using CapabilitySet = uint64_t;

/// Takes from every thread of this process, and from the programs that it will run, whatever
/// capability is not in `keep`: out of the effective, permitted, inheritable, ambient and, with
/// CAP_SETPCAP, bounding set; and sets no_new_privs. What is in `keep` and permitted now is then
/// inheritable and ambient, so that programs have it whoever the user is. Nothing of this can be
/// taken back.
///
/// The kernel knows capabilities by thread, and each thread can only change its own. So every one
/// is interrupted by a signal whose handler does it, as the C library does it for setuid(2)
/// (nptl(7)). Not by that of libpsx, which would have to be linked into Node.
///
/// Returns what is permitted afterwards. Throws SystemError: a thread may have more then. To be
/// called by one thread at a time.
CapabilitySet reduce_privileges(CapabilitySet keep);

/// Takes everything from the calling thread. Where the kernel refuses, the thread keeps it.
void give_up_privileges() noexcept;

}  // namespace flannel
