// A dataplane that passes from owner to owner under traffic: real TUN, real UDP, 10,000 numbered
// packets a second each way.
#include <sys/stat.h>

#include "succession_lab.h"

namespace flannel::test {
namespace {

constexpr uint16_t kMovedPort = 8287;

class SuccessionTest : public SuccessionFixture {
 protected:
  /// A successor that does not follow the script.
  Connection stranger(Step up_to) {
    Connection connection = Connection::to(socket_);
    Message message;
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    std::vector<UniqueFd> descriptors;
    const auto expect = [&](Step step) {
      EXPECT_EQ(connection.receive(message, deadline, &descriptors), Connection::Received::message);
      EXPECT_EQ(message.step, step) << message.said();
    };
    if (up_to == Step{}) return connection;
    connection.send({.step = Step::hello});
    if (up_to == Step::hello) return connection;
    expect(Step::offer);
    if (up_to == Step::offer) return connection;
    connection.send({.step = Step::ready});
    if (up_to == Step::ready) return connection;
    expect(Step::go);
    if (up_to == Step::go) return connection;
    connection.send({.step = Step::taken});
    if (up_to == Step::taken) return connection;
    expect(Step::bye);
    return connection;
  }
};

constexpr std::array kSteps{Step{},   Step::hello, Step::offer, Step::ready,
                            Step::go, Step::taken, Step::bye};

TEST_F(SuccessionTest, PassesFromOwnerToOwnerWithoutALoss) {
  constexpr int kTimes = 20;
  with_owner([&](Daemon& first) {
    Traffic traffic;
    std::unique_ptr<Daemon> owner;
    bool called_off = false;
    for (int i = 0; i < kTimes; i++) {
      Daemon& before = owner ? *owner : first;
      auto successor = succeed(before, socket_);
      EXPECT_EQ(successor->standing(), Standing::owner);
      called_off |= before.called_off();
      before.close();
      owner = std::move(successor);
    }
    traffic.expect_whole(!called_off);
    EXPECT_TRUE(link_exists("flannel0"));
    owner->close();
    EXPECT_FALSE(link_exists("flannel0"));
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
  });
}

TEST_F(SuccessionTest, GoesOnWhenASuccessorHangsUpAtAnyStep) {
  with_owner([&](Daemon& owner) {
    Traffic traffic;
    for (const Step step : kSteps) {
      stranger(step).close();
      EXPECT_TRUE(eventually([&] { return owner.standing() == Standing::owner; }));
      std::this_thread::sleep_for(20ms);
    }
    traffic.expect_whole();
  });
}

TEST_F(SuccessionTest, GoesOnWhenASuccessorFallsSilentAtAnyStep) {
  with_owner([&](Daemon& owner) {
    Traffic traffic;
    for (const Step step : kSteps) {
      Connection silent = stranger(step);
      std::this_thread::sleep_for(150ms);
      EXPECT_TRUE(eventually([&] { return owner.standing() == Standing::owner; }));
      silent.close();
    }
    traffic.expect_whole();
  });
}

TEST_F(SuccessionTest, TellsASuccessorThatFellSilentThatItIsOff) {
  with_owner([&](Daemon& owner) {
    for (const Step step : {Step::go, Step::taken}) {
      Connection late = stranger(step);
      std::this_thread::sleep_for(150ms);
      // What it says now comes too late, and does not keep the answer from it.
      late.send({.step = Step::taken});
      Message message;
      const auto deadline = std::chrono::steady_clock::now() + 30s;
      while (late.receive(message, deadline) == Connection::Received::message &&
             message.step != Step::abort) {
      }
      EXPECT_EQ(message.step, Step::abort);
      EXPECT_EQ(owner.standing(), Standing::owner);
    }
  });
}

TEST_F(SuccessionTest, RefusesByName) {
  with_owner([&](Daemon&) {
    const auto answer_to = [&](const Message& hello) {
      Connection caller = Connection::to(socket_);
      caller.send(hello);
      Message answer;
      EXPECT_EQ(caller.receive(answer, std::chrono::steady_clock::now() + 30s),
                Connection::Received::message);
      EXPECT_EQ(answer.step, Step::refuse);
      return answer.said();
    };
    EXPECT_EQ(answer_to({.version = 3, .step = Step::hello}),
              "it speaks version 3 of the handover protocol, and the owner version 2");
    EXPECT_EQ(answer_to({.step = Step::taken}), "it said what has no place here");
    const Connection first = stranger(Step::offer);
    EXPECT_EQ(answer_to({.step = Step::hello}), "another process is about to take over");
  });
}

TEST_F(SuccessionTest, RefusesALowerGeneration) {
  with_owner([&](Daemon& first) {
    Daemon newer(socket_, 7);
    newer.start();
    EXPECT_TRUE(eventually([&] { return first.standing() == Standing::handed_over; }));
    first.close();
    try {
      const Daemon older(socket_, 6);
      FAIL();
    } catch (const SystemError& error) {
      EXPECT_EQ(error.code().value(), EBUSY);
      EXPECT_EQ(error.call(), "handover: the owner is of generation 7, and it of 6");
    }
    EXPECT_EQ(newer.standing(), Standing::owner);
  });
}

TEST_F(SuccessionTest, AnOwnerThatDiesBeforeItLetsGoIsSucceededAllTheSame) {
  with_owner([&](Daemon& owner) {
    Traffic traffic;
    Daemon successor(socket_);
    // As a process that is killed: nothing is said, and the device is left alone.
    owner.dataplane().park(std::chrono::steady_clock::now() + 1s);
    owner.succession().abandon();
    successor.start();
    EXPECT_EQ(successor.standing(), Standing::owner);
    traffic.expect_whole();
  });
}

TEST_F(SuccessionTest, TheOneThatStandsByFillsEveryGap) {
  constexpr int kTimes = 5;
  with_owner([&](Daemon& first) {
    Traffic traffic;
    Standby standby(socket_);
    EXPECT_TRUE(eventually([&] { return first.succession().stood_by(); }));
    first.close();
    EXPECT_TRUE(eventually([&] { return standby.succession.standing() == Standing::owner; }));
    for (int i = 0; i < kTimes; i++) {
      Daemon next(socket_);
      next.start();
      EXPECT_EQ(standby.succession.standing(), Standing::parked);
      EXPECT_TRUE(eventually([&] { return next.succession().stood_by(); }));
      next.close();
      EXPECT_TRUE(eventually([&] { return standby.succession.standing() == Standing::owner; }));
    }
    traffic.expect_whole();
    EXPECT_TRUE(link_exists("flannel0"));
  });
}

TEST_F(SuccessionTest, TheOneThatStandsByKnowsTheRoutes) {
  with_owner([&](Daemon& first) {
    Standby standby(socket_);
    EXPECT_TRUE(eventually([&] { return first.succession().stood_by(); }));
    std::vector<Route> routes;
    for (uint32_t i = 0; i < 10'000; i++) {
      routes.push_back(
          {{ip(10, 0, 0, 0) + (i << 8), 24}, {Address::of_ipv4(kLoopback), htons(kPeerPort)}});
    }
    first.succession().set_routes(routes);
    // The table is sent at most ten times a second: so wait until the last one has gone.
    std::this_thread::sleep_for(1s);
    first.close();
    EXPECT_TRUE(eventually([&] { return standby.succession.standing() == Standing::owner; }));
    EXPECT_EQ(standby.dataplane.routes().size(), routes.size());
  });
}

TEST_F(SuccessionTest, TheOneThatStandsByGoesOverToTheSuccessor) {
  with_owner([&](Daemon& first) {
    Traffic traffic;
    Standby standby(socket_);
    EXPECT_TRUE(eventually([&] { return first.succession().stood_by(); }));
    Daemon second(socket_);
    second.start();
    EXPECT_TRUE(second.succession().stood_by());
    EXPECT_TRUE(eventually([&] { return first.standing() == Standing::handed_over; }));
    first.close();
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(standby.succession.standing(), Standing::parked);
    second.close();
    EXPECT_TRUE(eventually([&] { return standby.succession.standing() == Standing::owner; }));
    traffic.expect_whole();
  });
}

TEST_F(SuccessionTest, TheDeviceOfADeadOwnerIsTakenUp) {
  with_owner([&](Daemon& owner) {
    owner.succession().abandon();
    owner.dataplane().close();
    EXPECT_TRUE(link_exists("flannel0"));
    Daemon next(socket_);
    EXPECT_EQ(next.dataplane().tun_name(), "flannel0");
    next.start();
    Traffic traffic;  // its addresses and routes are there
    EXPECT_TRUE(eventually([&] { return traffic.arrived() > 100 && traffic.arrived_in() > 100; }));
    traffic.expect_whole();
  });
}

TEST_F(SuccessionTest, SocketsMoveUnderTraffic) {
  with_owner([&](Daemon& owner) {
    Traffic traffic;
    for (const uint16_t port : {kMovedPort, kPort, kMovedPort}) {
      EXPECT_TRUE(eventually(
          [&, before = traffic.arrived_in()] { return traffic.arrived_in() > before + 200; }));
      owner.dataplane().rebind(Address::of_ipv4(kLoopback), port);
      traffic.redirect(port);
    }
    EXPECT_TRUE(eventually(
        [&, before = traffic.arrived_in()] { return traffic.arrived_in() > before + 200; }));
    EXPECT_THROW(owner.dataplane().rebind(Address::of_ipv4(ip(192, 0, 2, 1)), kPort), SystemError);
    EXPECT_TRUE(eventually(
        [&, before = traffic.arrived_in()] { return traffic.arrived_in() > before + 200; }));
    traffic.finish();
  });
}

TEST_F(SuccessionTest, ADeviceThatWasDeletedIsOpenedAgain) {
  with_owner([&](Daemon& owner) {
    delete_link("flannel0");
    EXPECT_TRUE(eventually([&] { return owner.dataplane().failure() != 0; }));
    owner.dataplane().reopen_device(true);
    EXPECT_EQ(owner.dataplane().restarts(), 1U);
    configure_link("flannel0", kHere, ip(255, 255, 0, 0));
    Traffic traffic;
    EXPECT_TRUE(eventually([&] { return traffic.arrived() > 100 && traffic.arrived_in() > 100; }));
    traffic.expect_whole();
    EXPECT_EQ(owner.dataplane().failure(), 0);
  });
}

TEST_F(SuccessionTest, OnlyTheUserMayAsk) {
  with_owner([&](Daemon&) {
    struct stat facts {};
    ASSERT_EQ(::stat(socket_.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777U, 0600U);
  });
}

}  // namespace
}  // namespace flannel::test
