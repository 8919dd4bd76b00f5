#include "snapshot.h"

#include <gtest/gtest.h>

#include <thread>

namespace flannel::test {
namespace {

/// Knows whether it was freed while somebody looked at it.
struct Tracked {
  explicit Tracked(int n, std::atomic<int>& alive) : number(n), mirror(n), alive_(&alive) {
    ++*alive_;
  }
  ~Tracked() {
    number = -1;
    --*alive_;
  }
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;

  int number;
  int mirror;

 private:
  std::atomic<int>* alive_;
};

TEST(Snapshot, KeepsAPinnedValueUntilItIsUnpinned) {
  std::atomic<int> alive{0};
  {
    Snapshot<Tracked> snapshot(std::make_unique<Tracked>(0, alive), 2);
    const Tracked& pinned = snapshot.reader(0).pin();
    snapshot.publish(std::make_unique<Tracked>(1, alive));
    snapshot.publish(std::make_unique<Tracked>(2, alive));
    EXPECT_EQ(alive, 3);
    EXPECT_EQ(pinned.number, 0);
    EXPECT_EQ(snapshot.reader(1).pin().number, 2);
    snapshot.reader(0).unpin();
    EXPECT_EQ(snapshot.reclaim(), 0U) << "the other reader pinned the newest value";
    EXPECT_EQ(alive, 1);
    snapshot.reader(1).unpin();
  }
  EXPECT_EQ(alive, 0);
}

TEST(Snapshot, FreesAtOnceWhenNobodyReads) {
  std::atomic<int> alive{0};
  Snapshot<Tracked> snapshot(std::make_unique<Tracked>(0, alive), 4);
  for (int i = 1; i < 100; i++) snapshot.publish(std::make_unique<Tracked>(i, alive));
  EXPECT_EQ(alive, 1);
  EXPECT_EQ(snapshot.current().number, 99);
}

TEST(Snapshot, SurvivesReadersThatNeverRest) {
  std::atomic<int> alive{0};
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  constexpr size_t kReaders = 3;
  Snapshot<Tracked> snapshot(std::make_unique<Tracked>(0, alive), kReaders);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kReaders; i++) {
    threads.emplace_back([&, i] {
      int last = 0;
      while (!stop) {
        const Tracked& value = snapshot.reader(i).pin();
        if (value.number != value.mirror || value.number < last) ++torn;
        last = value.number;
        snapshot.reader(i).unpin();
      }
    });
  }
  for (int i = 1; i <= 20'000; i++) snapshot.publish(std::make_unique<Tracked>(i, alive));
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(snapshot.reclaim(), 0U);
  EXPECT_EQ(alive, 1);
}

}  // namespace
}  // namespace flannel::test
