// The ends that libFuzzer calls. With FLANNEL_FUZZ_SEEDS=FOLDER in the environment, a target writes
// its seeds there and ends.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "fuzz.h"

namespace flannel::fuzz {
namespace {

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  size_t number = 0;
  for (const Seed& seed : seeds()) {
    std::ofstream file(folder / ("seed-" + std::to_string(number++)), std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.done().data()),
               static_cast<std::streamsize>(seed.done().size()));
  }
}

}  // namespace
}  // namespace flannel::fuzz

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  if (const char* folder = std::getenv("FLANNEL_FUZZ_SEEDS")) {
    flannel::fuzz::write_seeds(folder);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flannel::fuzz::run({data, size});
  // What did not hold has been told; for libFuzzer, it has to be a crash.
  if (::testing::UnitTest::GetInstance()->Failed()) std::abort();
  return 0;
}
