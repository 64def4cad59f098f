/*
 * amx.h
 *	  The tile instructions of AMX that the kernels use, or, with NN_AMX_EMULATED,
 *	  the same in C over eight tiles in memory: the unit tests run the kernels'
 *	  very code on CPUs without AMX.
 *
 * A tile has up to 16 rows of up to 64 bytes; which ones, amx_configure() says.
 */
#ifndef MILLRACE_NN_AMX_H
#define MILLRACE_NN_AMX_H

#include <stdint.h>
#include <string.h>

#define AMX_ROWS 16
#define AMX_TILES 8

/* What LDTILECFG loads. */
typedef struct amx_config
{
	uint8_t		palette;
	uint8_t		start_row;
	uint8_t		reserved[14];
	uint16_t	bytes[16];		/* of a row */
	uint8_t		rows[16];
} amx_config;

#ifndef NN_AMX_EMULATED
#include <immintrin.h>

#define amx_load_config(c) _tile_loadconfig(c)
#define amx_release() _tile_release()
#define amx_zero(t) _tile_zero(t)
#define amx_load(t, p, stride) _tile_loadd(t, p, stride)
#define amx_store(t, p, stride) _tile_stored(t, p, stride)
/* c += a . b: uint8 by int8 into int32; bfloat16 pairs into float32 */
#define amx_dot_u8(c, a, b) _tile_dpbusd(c, a, b)
#define amx_dot_bf16(c, a, b) _tile_dpbf16ps(c, a, b)
#else

#define AMX_EMULATION static __attribute__((unused))

static amx_config amx_now;
static uint8_t amx_tile[AMX_TILES][AMX_ROWS][64];

AMX_EMULATION void
amx_load_config(const amx_config *c)
{
	amx_now = *c;
	memset(amx_tile, 0, sizeof(amx_tile));
}

AMX_EMULATION void
amx_release(void)
{
	memset(&amx_now, 0, sizeof(amx_now));
}

AMX_EMULATION void
amx_zero(int t)
{
	memset(amx_tile[t], 0, sizeof(amx_tile[t]));
}

AMX_EMULATION void
amx_load(int t, const void *p, size_t stride)
{
	amx_zero(t);
	for (int r = 0; r < amx_now.rows[t]; r++)
		memcpy(amx_tile[t][r], (const char *) p + r * stride, amx_now.bytes[t]);
}

AMX_EMULATION void
amx_store(int t, void *p, size_t stride)
{
	for (int r = 0; r < amx_now.rows[t]; r++)
		memcpy((char *) p + r * stride, amx_tile[t][r], amx_now.bytes[t]);
}

AMX_EMULATION void
amx_dot_u8(int c, int a, int b)
{
	for (int m = 0; m < amx_now.rows[c]; m++)
		for (int k = 0; k < amx_now.bytes[a] / 4; k++)
			for (int n = 0; n < amx_now.bytes[c] / 4; n++)
			{
				uint32_t	sum;

				memcpy(&sum, amx_tile[c][m] + 4 * n, 4);
				for (int i = 0; i < 4; i++)
					sum += (uint32_t) (amx_tile[a][m][4 * k + i] * (int8_t) amx_tile[b][k][4 * n + i]);
				memcpy(amx_tile[c][m] + 4 * n, &sum, 4);
			}
}

AMX_EMULATION void
amx_dot_bf16(int c, int a, int b)
{
	for (int m = 0; m < amx_now.rows[c]; m++)
		for (int k = 0; k < amx_now.bytes[a] / 4; k++)
			for (int n = 0; n < amx_now.bytes[c] / 4; n++)
			{
				float		sum;

				memcpy(&sum, amx_tile[c][m] + 4 * n, 4);
				for (int i = 0; i < 2; i++)
				{
					uint32_t	x = 0,
								y = 0;
					float		f,
								g;

					memcpy((char *) &x + 2, amx_tile[a][m] + 4 * k + 2 * i, 2);
					memcpy((char *) &y + 2, amx_tile[b][k] + 4 * n + 2 * i, 2);
					memcpy(&f, &x, 4);
					memcpy(&g, &y, 4);
					sum += f * g;
				}
				memcpy(amx_tile[c][m] + 4 * n, &sum, 4);
			}
}
#endif

#endif							/* MILLRACE_NN_AMX_H */
