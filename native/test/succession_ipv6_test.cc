// A dataplane with IPv6 inside the tunnel, around it, or both, that passes from owner to owner.
#include <algorithm>

#include "succession_lab.h"

namespace flannel::test {
namespace {

class SuccessionIpv6Test : public SuccessionFixture,
                           public ::testing::WithParamInterface<Families> {};

std::string name_of(const ::testing::TestParamInfo<Families>& info) {
  return std::string(info.param.inner_ipv6 ? "Ipv6" : "Ipv4") +
         (info.param.outer_ipv6 ? "OverIpv6" : "OverIpv4");
}

INSTANTIATE_TEST_SUITE_P(Tunnels, SuccessionIpv6Test,
                         ::testing::Values(Families{true, false}, Families{false, true},
                                           Families{true, true}),
                         name_of);

TEST_P(SuccessionIpv6Test, PassesFromOwnerToOwnerWithoutALoss) {
  constexpr int kTimes = 5;
  const auto run = [&](Daemon& first) {
    Traffic traffic(GetParam());
    std::unique_ptr<Daemon> owner;
    bool called_off = false;
    for (int i = 0; i < kTimes; i++) {
      Daemon& before = owner ? *owner : first;
      auto successor = succeed(before, socket_, GetParam());
      called_off |= before.called_off();
      before.close();
      owner = std::move(successor);
    }
    traffic.expect_whole(!called_off);
  };
  with_owner(run, GetParam());
}

TEST_P(SuccessionIpv6Test, IsOfferedWithItsAddresses) {
  const auto run = [&](Daemon&) {
    const Claim claim = claim_to_stand_by(socket_);
    ASSERT_TRUE(claim.inheritance.has_value());
    const DataplaneOptions options = options_of(GetParam());
    EXPECT_EQ(claim.inheritance->bind_address, options.bind_address);
    EXPECT_EQ(claim.inheritance->port, kPort);
    EXPECT_EQ(claim.inheritance->tunnel_addresses.ipv4, options.tunnel_addresses.ipv4);
    EXPECT_EQ(claim.inheritance->tunnel_addresses.ipv6, options.tunnel_addresses.ipv6);
    EXPECT_EQ(claim.inheritance->queues.size(), options.queues);
  };
  with_owner(run, GetParam());
}

TEST_P(SuccessionIpv6Test, TheOneThatStandsByForwardsInItsPlace) {
  const auto run = [&](Daemon& first) {
    Traffic traffic(GetParam());
    Standby standby(socket_, GetParam());
    EXPECT_TRUE(eventually([&] { return first.succession().stood_by(); }));
    first.close();
    EXPECT_TRUE(eventually([&] { return standby.succession.standing() == Standing::owner; }));
    const uint64_t out = traffic.arrived();
    const uint64_t in = traffic.arrived_in();
    EXPECT_TRUE(eventually(
        [&] { return traffic.arrived() > out + 100 && traffic.arrived_in() > in + 100; }));
    traffic.finish();
    ASSERT_EQ(standby.dataplane.routes().size(), 1U);
    const Route& route = standby.dataplane.routes().front();
    EXPECT_EQ(route.prefix, GetParam().route().prefix);
    EXPECT_EQ(route.next_hop, GetParam().route().next_hop);
  };
  with_owner(run, GetParam());
}

TEST_P(SuccessionIpv6Test, ATunnelOverTheOtherFamilyIsNotTakenOverAndGoesOn) {
  const auto run = [&](Daemon& owner) {
    Families other = GetParam();
    other.outer_ipv6 = !other.outer_ipv6;
    try {
      const Daemon successor(socket_, 0, other);
      FAIL();
    } catch (const SystemError& error) {
      EXPECT_EQ(error.code().value(), EBUSY);
      EXPECT_EQ(error.call(), other.outer_ipv6
                                  ? "handover: its tunnel runs over IPv4 and this one's is to run "
                                    "over IPv6, so it has to end first"
                                  : "handover: its tunnel runs over IPv6 and this one's is to run "
                                    "over IPv4, so it has to end first");
    }
    EXPECT_EQ(owner.standing(), Standing::owner);
    Traffic traffic(GetParam());
    EXPECT_TRUE(eventually([&] { return traffic.arrived() > 100 && traffic.arrived_in() > 100; }));
    traffic.expect_whole();
    const auto successor = succeed(owner, socket_, GetParam());
    EXPECT_EQ(successor->standing(), Standing::owner) << "the one that did not go on is forgotten";
  };
  with_owner(run, GetParam());
}

}  // namespace
}  // namespace flannel::test
