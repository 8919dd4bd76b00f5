{
  "variables": {
    "core_source_files": [
      "checksum.cc",
      "claim.cc",
      "dataplane.cc",
      "decap.cc",
      "encap.cc",
      "fib.cc",
      "gro.cc",
      "gso.cc",
      "handover.cc",
      "icmp.cc",
      "netlink.cc",
      "notify.cc",
      "send_batch.cc",
      "succession.cc",
      "syscalls.cc",
      "tun.cc",
      "udp.cc",
      "worker.cc"
    ],
    "addon_source_files": ["addon.cc"],
    "standby_source_files": ["standby.cc"],
    "test_source_files": [
      "test/allocation_test.cc",
      "test/checksum_test.cc",
      "test/dataplane_test.cc",
      "test/decap_test.cc",
      "test/encap_test.cc",
      "test/fib_test.cc",
      "test/gro_test.cc",
      "test/gso_test.cc",
      "test/icmp_test.cc",
      "test/netlink_test.cc",
      "test/offload_test.cc",
      "test/receive_matrix_test.cc",
      "test/round_trip_test.cc",
      "test/send_batch_test.cc",
      "test/send_matrix_test.cc",
      "test/snapshot_test.cc",
      "test/succession_test.cc",
      "test/tiers_test.cc",
      "test/tun_matrix_test.cc",
      "test/udp_test.cc"
    ],
    "bench_source_files": ["bench/fib_bench.cc", "bench/offload_bench.cc"]
  }
}
