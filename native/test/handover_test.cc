// What comes over a control socket from a process that does not keep to the protocol.
#include "handover.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "claim.h"

namespace flannel::test {
namespace {

using std::chrono::steady_clock;

/// Sends so many bytes with so many copies of a descriptor.
void send_raw(int socket, const void* bytes, size_t size, std::vector<int> descriptors) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(8 * sizeof(int))> control{};
  iovec piece{const_cast<void*>(bytes), size};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
  std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  ASSERT_EQ(::sendmsg(socket, &header, MSG_NOSIGNAL), static_cast<ssize_t>(size));
}

TEST(Handover, DescriptorsOfAnEmptyMessageAreClosed) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd peer(ends[0]);
  Connection connection{UniqueFd(ends[1])};
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe[0]);
  UniqueFd writer(pipe[1]);
  send_raw(peer.get(), nullptr, 0, {writer.get()});
  writer.reset();
  Message message;
  EXPECT_EQ(connection.receive(message, steady_clock::now()), Connection::Received::closed);
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "nobody holds the other end any more";
}

/// An owner that answers one hello with `answer`. Its errno is what claiming its place ends with.
int claim_from(const std::function<void(int caller)>& answer) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("handover-" + std::to_string(::getpid())))
          .string();
  const UniqueFd listener = listen_at(path);
  std::thread owner([&] {
    pollfd polled{listener.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&polled, 1, 5000), 1);
    const UniqueFd caller(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    Message hello;
    ::recv(caller.get(), &hello, sizeof hello, 0);  // closed with it unread, all would be a reset
    answer(caller.get());
  });
  int error = 0;
  try {
    claim_to_stand_by(path);
  } catch (const SystemError& refusal) {
    error = refusal.code().value();
  }
  owner.join();
  ::unlink(path.c_str());
  return error;
}

TEST(Handover, AnOfferOfMoreQueuesThanThereCanBeIsRefused) {
  EXPECT_EQ(
      claim_from([](int caller) {
        // 2 + queues * (2 + senders) is 1 again in 64 bits: as many as there are descriptors.
        const Message offer{
            .step = Step::offer, .descriptors = 1, .queues = 0xffffffff, .senders = 0xffffffff};
        const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
        send_raw(caller, &offer, sizeof offer, {event.get()});
      }),
      EPROTO);
}

TEST(Handover, AnOwnerThatTalksOnWithoutTheDescriptorsItOfferedIsNotListenedToForEver) {
  EXPECT_EQ(claim_from([](int caller) {
              const Message offer{.step = Step::offer, .descriptors = 5, .queues = 1};
              const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
              send_raw(caller, &offer, sizeof offer, {event.get()});
              const Message alive{.step = Step::alive};
              while (::send(caller, &alive, sizeof alive, MSG_NOSIGNAL) > 0) continue;
            }),
            EPROTO);
}

}  // namespace
}  // namespace flannel::test
