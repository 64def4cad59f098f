/*
 * dtype.c
 *	  Element types: their names and sizes, and the engine's default limits.
 */
#include "nn/graph.h"

const nn_options nn_default_options = {
	.isa = nn_isa_auto,.precision = nn_float32,.max_model_bytes = (size_t) 1 << 30,.max_nodes = 100000,.max_memory = (size_t) 1 << 30
};

const char *
nn_dtype_name(nn_dtype dtype)
{
	static const char *const names[] = {
		"undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string",
		"bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"
	};

	return (unsigned) dtype < sizeof(names) / sizeof(names[0]) ? names[dtype] : "unknown";
}

size_t
nn_dtype_size(int dtype)
{
	switch (dtype)
	{
		case nn_float32:
		case nn_int32:
		case nn_uint32:
			return 4;
		case nn_int64:
		case nn_uint64:
		case nn_float64:
			return 8;
		case nn_int16:
		case nn_uint16:
		case nn_float16:
		case nn_bfloat16:
			return 2;
		case nn_int8:
		case nn_uint8:
		case nn_bool:
			return 1;
	}
	return 0;
}
