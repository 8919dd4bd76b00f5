// What counters.def and histograms.def declare, for JavaScript.
#pragma once

#include <napi.h>

namespace flannel::addon {

/// A CounterInfo of index.d.ts for each row, in the order of the file.
Napi::Array counter_table(Napi::Env env);
/// The same for HistogramInfo.
Napi::Array histogram_table(Napi::Env env);

}  // namespace flannel::addon
