// The rules, a family in each file. Each looks at all of the facts and says what it judged and what
// is broken. What each invariant means is in HISTORY.md.
#pragma once

#include "tests/checker/facts.h"
#include "tests/checker/report.h"

namespace tidemark::checker {

void check_records(const Facts& facts, Report& report);       // I1 to I4, I11; I6, I7: the drain
void check_order(const Facts& facts, Report& report);         // I5; I6, I7: readers
void check_groups(const Facts& facts, Report& report);        // I8 to I10
void check_delays(const Facts& facts, Report& report);        // I12 to I15
void check_transactions(const Facts& facts, Report& report);  // I16 to I18
void check_fencing(const Facts& facts, Report& report);       // I19
void check_queues(const Facts& facts, Report& report);        // I20
void check_retention(const Facts& facts, Report& report);     // I24

}  // namespace tidemark::checker
