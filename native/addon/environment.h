// What lives as long as the JS environment that loaded the addon.
#pragma once

#include <napi.h>

#include <memory>
#include <set>

namespace flannel::addon {

/// The dataplanes of one JS environment. When it ends (also by worker.terminate()), no finalizer of
/// JS objects is sure to have run, so the environment's clean-up hook joins every thread through
/// this.
class Environment {
 public:
  /// Something with threads of its own.
  class Member {
   public:
    virtual void close() = 0;

   protected:
    ~Member() = default;
  };

  static std::shared_ptr<Environment> of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
  }
  void add(Member* member) { members_.insert(member); }
  void remove(Member* member) { members_.erase(member); }
  void close_all() {
    for (Member* member : members_) member->close();
  }

 private:
  std::set<Member*> members_;
};

}  // namespace flannel::addon
