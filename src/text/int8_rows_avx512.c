/*
 * int8_rows_avx512.c
 *	  Rows of int8 products with AVX-512.
 */
#if defined(__x86_64__)
#include <stdint.h>

#include "nn/vec_avx512.h"
#define INT8_ROWS_SET txt_int8_rows_avx512
#include "text/int8_rows.h"
#endif
