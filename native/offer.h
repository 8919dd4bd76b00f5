// What an owner offers to the process that asks for his place: a message, and behind it the
// descriptors of his lock and his listener, of the process that stands by if there is one, and of
// each queue its device, its socket and its senders.
#pragma once

#include <vector>

#include "claim.h"
#include "dataplane.h"
#include "handover.h"

namespace flannel {

/// Offers the place of `claim` with all of `estate`. False when the candidate is gone, or does not
/// read.
bool send_offer(Connection& candidate, const Claim& claim, const Connection& standby,
                const Estate& estate);

/// Puts the descriptors that came with an offer in their places. Throws SystemError when they are
/// not what the offer says.
void take_offer(const Message& offer, std::vector<UniqueFd> descriptors, Claim& claim);

}  // namespace flannel
