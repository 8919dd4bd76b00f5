#include "values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace flannel::addon {

double read_number(const Napi::Value& value, double most, const std::string& complaint) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= most)) throw Napi::RangeError::New(value.Env(), complaint);
  return number;
}

Address read_address(const Napi::Value& value, const char* key) {
  const std::string complaint = std::string(key) + " is no IP address";
  if (value.IsNumber()) {
    return Address::of_ipv4(static_cast<uint32_t>(read_number(value, UINT32_MAX, complaint)));
  }
  std::array<uint8_t, Address::kBytes> bytes{};
  if (!value.IsString() ||
      ::inet_pton(AF_INET6, value.As<Napi::String>().Utf8Value().c_str(), bytes.data()) != 1) {
    throw Napi::RangeError::New(value.Env(), complaint);
  }
  return Address::of_bytes(bytes);
}

uint32_t number_field(const Napi::Object& object, const char* key, double most) {
  const std::string complaint = std::string(key) + " is out of range";
  const double number = read_number(object.Get(key), most, complaint);
  if (number != std::trunc(number)) throw Napi::RangeError::New(object.Env(), complaint);
  return static_cast<uint32_t>(number);
}

bool choice_field(const Napi::Object& object, const char* key, const char* yes, const char* no) {
  const std::string value = object.Get(key).ToString().Utf8Value();
  if (value != yes && value != no) {
    throw Napi::RangeError::New(object.Env(), std::string(key) + " must be " + yes + " or " + no);
  }
  return value == yes;
}

FeatureSet read_features(const Napi::Value& value) {
  if (!value.IsArray())
    throw Napi::TypeError::New(value.Env(), "features must be an array of names");
  const auto names = value.As<Napi::Array>();
  FeatureSet features;
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = names.Get(i).ToString().Utf8Value();
    const auto* info = std::find_if(kFeatures.begin(), kFeatures.end(),
                                    [&](const FeatureInfo& known) { return known.name == name; });
    if (info == kFeatures.end())
      throw Napi::RangeError::New(value.Env(), "unknown feature " + name);
    features.add(info->feature);
  }
  return features;
}

Napi::Array feature_names(Napi::Env env, FeatureSet features) {
  auto names = Napi::Array::New(env);
  for (const FeatureInfo& info : kFeatures) {
    if (features.has(info.feature)) names.Set(names.Length(), std::string(info.name));
  }
  return names;
}

}  // namespace flannel::addon
