// How long each step of a hand-over may take. handover.h tells the steps.
#pragma once

#include <chrono>

namespace flannel {

// While neither reads, packets wait in the queues, which hold some 200 ms of them at 10,000 a
// second. So the two steps in which that is the case have to be short, and so has the silence after
// which a successor is taken for dead.
inline constexpr std::chrono::milliseconds kPark{200};
inline constexpr std::chrono::milliseconds kTaken{100};
inline constexpr std::chrono::milliseconds kBeat{5};
/// How often the successor is looked after in vain, a beat each time, before it is taken for dead:
/// 50 ms. Looks are counted, not the time: what keeps the processors from one of the two processes
/// keeps them from the other as well, and the successor may only be next.
inline constexpr int kSilentLooks = 10;
/// Silence alone may also mean that it is the only one without a processor: unless packets wait,
/// and go on waiting for so many looks, it gets 500 ms.
inline constexpr int kWaitingLooks = 4;
inline constexpr int kMostSilentLooks = 100;
/// How long a successor is watched before the owner leaves.
inline constexpr std::chrono::milliseconds kProbation{1000};
/// How long it says that it lives: for as long as it may be watched, and some more.
inline constexpr std::chrono::milliseconds kBeatsFor{1500};

/// To hello; also of an owner that parks.
inline constexpr std::chrono::milliseconds kAnswer{2000};
/// While an owner starts or ends.
inline constexpr std::chrono::milliseconds kRetry{20};
/// From the offer until it is accepted.
inline constexpr std::chrono::milliseconds kPreparing{60000};
/// Between two tables for the process that stands by.
inline constexpr std::chrono::milliseconds kInform{100};

}  // namespace flannel
