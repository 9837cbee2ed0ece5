// Everything of the C++ client.
#pragma once

#include "tidemark/admin.h"
#include "tidemark/client.h"
#include "tidemark/consumer.h"
#include "tidemark/delay.h"
#include "tidemark/error.h"
#include "tidemark/group.h"
#include "tidemark/message.h"
#include "tidemark/producer.h"
#include "tidemark/queue.h"
#include "tidemark/transaction.h"
