#include "metrics.h"

#include <cmath>
#include <string>

#include "stats.h"

namespace flannel::addon {

Napi::Array counter_table(Napi::Env env) {
  auto table = Napi::Array::New(env, kCounterCount);
  for (uint32_t i = 0; i < kCounterCount; i++) {
    const CounterInfo& info = kCounters[i];
    auto row = Napi::Object::New(env);
    row.Set("name", std::string(info.name));
    row.Set("direction", std::string(info.direction));
    row.Set("role", std::string(info.role));
    row.Set("help", std::string(info.help));
    table[i] = row;
  }
  return table;
}

Napi::Array histogram_table(Napi::Env env) {
  auto table = Napi::Array::New(env, kHistogramCount);
  for (uint32_t i = 0; i < kHistogramCount; i++) {
    const HistogramInfo& info = kHistograms[i];
    auto bounds = Napi::Array::New(env, info.buckets);
    for (uint32_t bucket = 0; bucket < info.buckets; bucket++) {
      bounds[bucket] = std::ldexp(info.unit, static_cast<int>(info.first + bucket));
    }
    auto row = Napi::Object::New(env);
    row.Set("name", std::string(info.name));
    row.Set("direction", std::string(info.direction));
    row.Set("help", std::string(info.help));
    row.Set("bounds", bounds);
    table[i] = row;
  }
  return table;
}

}  // namespace flannel::addon
