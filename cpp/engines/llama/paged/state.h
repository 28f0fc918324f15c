// Saves and restores sequences through llama.cpp's state interface (llama_state_seq_get_data …).
// Tokens are written densely, 32 to a page image, whatever holes the sequence has.
#pragma once

#include "engines/llama/paged/cache.h"

class llama_io_write_i;
class llama_io_read_i;

namespace pm::llama {

// `seq` < 0: all sequences.
void write_state(PagedCache& cache, llama_io_write_i& io, SeqId seq);
// Replaces what the sequences held. Throws std::runtime_error if the bytes are of another cache or
// there is no room; the sequence is then empty.
void read_state(PagedCache& cache, llama_io_read_i& io, SeqId seq);

}  // namespace pm::llama
