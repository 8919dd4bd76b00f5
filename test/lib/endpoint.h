/* UDP addresses of either family. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

union endpoint {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static inline socklen_t size_of(const union endpoint* endpoint) {
  return endpoint->any.sa_family == AF_INET ? sizeof endpoint->v4 : sizeof endpoint->v6;
}

/* 0, or -1 with errno where the text is no address. */
static inline int parse_address(const char* address, const char* port, union endpoint* result) {
  const uint16_t number = htons((uint16_t)atoi(port));
  *result = (union endpoint){.v4 = {.sin_family = AF_INET, .sin_port = number}};
  if (inet_pton(AF_INET, address, &result->v4.sin_addr) == 1) return 0;
  *result = (union endpoint){.v6 = {.sin6_family = AF_INET6, .sin6_port = number}};
  if (inet_pton(AF_INET6, address, &result->v6.sin6_addr) == 1) return 0;
  errno = EINVAL;
  return -1;
}
