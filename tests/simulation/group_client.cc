#include "tests/simulation/group_client.h"

#include <utility>

namespace tidemark::sim {

namespace fbs = protocol::fbs;

bool GroupClient::send_commits(ShardId shard, const std::string& group, Kind kind,
                               const std::vector<testing::CommitInput>& items) {
  const uint64_t connection = connection_to(shard);
  if (connection == 0) {
    return false;
  }
  const uint64_t correlation = next_correlation();
  Request& request = requests_[correlation];
  request = {connection, group, kind, items, {}, {}};
  for (const testing::CommitInput& item : items) {
    request.commits.push_back(
        model_.groups().commit_sent({group, item.partition}, kind, item.epoch, item.offset));
  }
  network_.send(connection,
                testing::group_commit_request(group, items, static_cast<fbs::GroupCommitKind>(kind),
                                              correlation));
  return true;
}

bool GroupClient::send_look(ShardId shard, const std::string& group,
                            const std::vector<PartitionId>& partitions) {
  const uint64_t connection = connection_to(shard);
  if (connection == 0) {
    return false;
  }
  const uint64_t correlation = next_correlation();
  requests_[correlation] = {connection, group, Kind::kCommit, {}, {}, partitions};
  network_.send(connection, testing::group_offsets_request(group, partitions, correlation));
  return true;
}

void GroupClient::on_arrival(uint64_t /*connection*/, uint64_t correlation) {
  if (const auto it = requests_.find(correlation); it != requests_.end()) {
    for (const uint64_t commit : it->second.commits) {
      model_.groups().commit_arrived(commit, scheduler_.now_ns());
    }
  }
}

void GroupClient::on_reply(uint64_t connection, const protocol::Frame& frame) {
  const auto it = requests_.find(frame.header.correlation);
  if (it == requests_.end()) {
    return on_other(connection, frame);
  }
  const Request request = std::move(it->second);
  requests_.erase(it);
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()),
            "a request about positions was refused: " + error.to_string());
    return fail(request);
  }
  request.commits.empty() ? read_look(request, frame) : read_commits(request, frame);
}

void GroupClient::read_commits(const Request& request, const protocol::Frame& frame) {
  const auto results = testing::read_group_commit_reply(frame);
  require(results.size() == request.items.size(),
          "a commit with another number of results than positions");
  for (size_t i = 0; i < results.size(); ++i) {
    const Status& status = results[i].status;
    const PartitionId partition = request.items[i].partition;
    Answer answer = status.ok() ? Answer::kOk : Answer::kUnsure;
    if (status.code() == ErrorCode::kFenced) {
      answer = Answer::kFenced;
    }
    const bool excused = status.code() == ErrorCode::kUnknownPartition &&
                         (!directory_.alive(partition) || !model_.used(partition));
    require(answer != Answer::kUnsure || excused, "a commit failed: " + status.to_string());
    model_.groups().commit_answered(request.commits[i], answer,
                                    {results[i].offset, results[i].epoch},
                                    network_.reply_left_ns());
    on_commit(request.kind, request.items[i], answer, results[i].offset);
  }
}

void GroupClient::read_look(const Request& request, const protocol::Frame& frame) {
  const auto results = testing::read_group_offsets_reply(frame);
  require(request.partitions.empty() || results.size() == request.partitions.size(),
          "positions of another number of partitions than asked for");
  for (size_t i = 0; i < results.size(); ++i) {
    const testing::GroupOffsetResult& result = results[i];
    require(request.partitions.empty() || result.partition == request.partitions[i],
            "the position of another partition than asked for");
    if (!directory_.alive(result.partition)) {
      continue;
    }
    if (!result.status.ok()) {
      require(
          result.status.code() == ErrorCode::kUnknownPartition && !model_.used(result.partition),
          "a position is not told: " + result.status.to_string());
      continue;
    }
    model_.groups().looked({request.group, result.partition},
                           {result.committed, result.epoch, result.start, result.end},
                           network_.reply_left_ns());
  }
  on_look(results);
}

void GroupClient::fail(const Request& request) {
  for (const testing::CommitInput& item : request.items) {
    on_commit(request.kind, item, Answer::kUnsure, {});
  }
  if (request.commits.empty()) {
    on_look_failed(request.partitions);
  }
}

void GroupClient::on_lost(uint64_t connection) {
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (it->second.connection == connection) {
      const Request request = std::move(it->second);
      it = requests_.erase(it);
      fail(request);
    } else {
      ++it;
    }
  }
  on_other_lost(connection);
}

}  // namespace tidemark::sim
