// The admin tool `tidemark`. The commands are in a file per noun; cli.h is the frame.
#include "tools/cli.h"

int main(int argc, char** argv) { return tidemark::tools::run_tool(argc, argv); }
