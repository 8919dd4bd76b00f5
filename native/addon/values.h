// Single values as they come from JavaScript, checked, and go there. What is not as index.d.ts
// wants it throws a JS RangeError or TypeError that names it.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "address.h"
#include "caps.h"

namespace flannel::addon {

/// A number from 0 to `most`, which need not be whole. Anything else throws a RangeError that says
/// `complaint`.
double read_number(const Napi::Value& value, double most, const std::string& complaint);
/// A number (IPv4, host order) or a text (IPv6), which an error calls `key`.
Address read_address(const Napi::Value& value, const char* key);

/// A whole number from 0 to `most`, which is UINT32_MAX or less.
uint32_t number_field(const Napi::Object& object, const char* key, double most);
/// True for `yes`, false for `no`.
bool choice_field(const Napi::Object& object, const char* key, const char* yes, const char* no);

/// By their names, in any order.
FeatureSet read_features(const Napi::Value& value);
Napi::Array feature_names(Napi::Env env, FeatureSet features);

}  // namespace flannel::addon
