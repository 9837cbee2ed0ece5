// Creates a topic, changes it, prints what the broker says about it, and deletes it again.
//
//   admin TOPIC [BROKERS]
//
// BROKERS defaults to $TIDEMARK_BROKERS. Exit code: 0 everything worked, 1 an error (the topic may
// be left), 2 wrong usage.
#include <iostream>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

int fail(const char* what, const mq::Status& status) {
  std::cerr << what << ": " << status.to_string() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: admin TOPIC [BROKERS]\n";
    return 2;
  }
  const char* const name = argv[1];
  const auto client = mq::Client::create(
      {.brokers = argc == 3 ? mq::split_brokers(argv[2]) : mq::brokers_from_environment(),
       .client_name = "example-admin"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }
  mq::Admin admin(*client);

  const auto cluster = admin.describe_cluster();
  if (!cluster.ok()) {
    return fail("cluster", cluster.status());
  }
  std::cout << "broker " << cluster->version << ", " << cluster->shards << " shards, fsync "
            << cluster->fsync << "\n";

  const auto created = admin.create_topic(name, 2, {.retention_ms = 3'600'000});
  if (!created.ok()) {
    return fail("create", created.status());
  }
  std::cout << "created " << created->name << " with " << created->partitions.size()
            << " partitions\n";

  // Creating it twice is refused.
  const auto again = admin.create_topic(name, 2);
  if (again.ok() || again.status().code() != mq::ErrorCode::kAlreadyExists) {
    return fail("second create", again.status());
  }
  std::cout << "second create: " << mq::error_name(again.status().code()) << "\n";

  const auto altered = admin.alter_topic(name, {.partitions = 3});
  if (!altered.ok()) {
    return fail("alter", altered.status());
  }
  std::cout << "altered to " << altered->partitions.size() << " partitions, retention "
            << altered->config.retention_ms << " ms\n";

  const auto partitions = admin.describe_partitions(name);
  if (!partitions.ok()) {
    return fail("describe", partitions.status());
  }
  for (const mq::PartitionDescription& partition : *partitions) {
    std::cout << "partition " << partition.partition << ": offsets " << partition.start_offset
              << " to " << partition.end_offset << ", " << partition.bytes << " bytes\n";
  }

  const auto deleted = admin.delete_topic(name);
  if (!deleted.ok()) {
    return fail("delete", deleted.status());
  }
  const auto gone = admin.describe_topic(name);
  if (gone.ok() || gone.status().code() != mq::ErrorCode::kUnknownTopic) {
    return fail("describe after delete", gone.status());
  }
  std::cout << "deleted " << deleted->name << "\n";
  return 0;
}
