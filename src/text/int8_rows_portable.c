/*
 * int8_rows_portable.c
 *	  Rows of int8 products with plain C: any CPU.
 */
#include <stdint.h>

#include "nn/vec_portable.h"
#define INT8_ROWS_SET txt_int8_rows_portable
#include "text/int8_rows.h"
