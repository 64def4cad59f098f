/*
 * int8_rows_avx2.c
 *	  Rows of int8 products with AVX2 and FMA.
 */
#if defined(__x86_64__)
#include <stdint.h>

#include "nn/vec_avx2.h"
#define INT8_ROWS_SET txt_int8_rows_avx2
#include "text/int8_rows.h"
#endif
