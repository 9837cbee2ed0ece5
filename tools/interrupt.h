// SIGINT and SIGTERM as a flag and as a descriptor to wait on, whichever thread the signal lands
// on.
//
// Thread: catch_interrupts() before other threads start; the rest from any thread. A second signal
// ends the process at once, for a command that hangs.
#pragma once

namespace tidemark::tools {

void catch_interrupts();
bool interrupted();
// Becomes readable when interrupted; never read from. -1 before catch_interrupts().
int interrupt_descriptor();

}  // namespace tidemark::tools
