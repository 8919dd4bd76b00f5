// System calls that fail, as tables: what the tests of all cases have in common.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "caps.h"

namespace flannel::test {

/// A set of features under a name for tests.
struct Tier {
  const char* name;
  FeatureSet features;
};

inline std::string tier_name(const ::testing::TestParamInfo<Tier>& info) {
  return info.param.name;
}

/// Tests that go through tables of cases, in each tier, and tell how many there were.
class MatrixTest : public ::testing::TestWithParam<Tier> {
 protected:
  void TearDown() override {
    EXPECT_GT(cases_, 0);
    RecordProperty("cases", cases_);
  }
  [[nodiscard]] static bool has(Feature feature) { return GetParam().features.has(feature); }

  int cases_ = 0;
};

/// An errno, and the counter of what failed with it for good: none where the call is made again.
struct Fault {
  int error = 0;
  const char* counter = nullptr;
};

inline std::string describe(const Fault& fault) {
  return fault.error == 0 ? "passes" : std::strerror(fault.error);
}

/// The errno of a call that should have brought a packet; the packet stays where it is.
struct ReadFault {
  int error;
  bool counted;   // as a read that failed
  bool for_good;  // the descriptor is of no use any more
};

/// Which of several packets fail: the one of that number, or more of them.
inline constexpr size_t kAll = SIZE_MAX;
inline constexpr size_t kAllButFirst = kAll - 1;
inline bool hits(size_t which, size_t index) {
  return which == kAll || which == index || (which == kAllButFirst && index > 0);
}

/// A fault as it comes: for good, or this often where the call is made again.
inline constexpr int kRepeats = 2;

class Failing {
 public:
  explicit Failing(Fault fault) : fault_(fault) {}
  int operator()() { return fault_.counter == nullptr && left_-- <= 0 ? 0 : fault_.error; }

 private:
  Fault fault_;
  int left_ = kRepeats;
};

}  // namespace flannel::test
