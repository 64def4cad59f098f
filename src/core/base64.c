/*
 * base64.c
 *	  Base64, four characters at a time.
 */
#include "core/base64.h"

#include <stdint.h>

/* Value of a base64 character + 1; 0 for every other byte. */
static const unsigned char base64_value[256] = {
	['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
	['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
	['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
	['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
	['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
	['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
	['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
	['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
	['-'] = 63, ['_'] = 64
};

long
mr_base64_decode(const char *text, size_t len, unsigned char *out)
{
	const unsigned char *p = (const unsigned char *) text;
	unsigned char *start = out;
	uint32_t	word;

	if (len % 4 == 0 && len > 0 && p[len - 1] == '=')
		len -= p[len - 2] == '=' ? 2 : 1;
	if (len % 4 == 1)
		return -1;
	for (; len >= 4; len -= 4, p += 4, out += 3)
	{
		uint32_t	a = base64_value[p[0]],
					b = base64_value[p[1]],
					c = base64_value[p[2]],
					d = base64_value[p[3]];

		if (a == 0 || b == 0 || c == 0 || d == 0)
			return -1;
		word = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
		out[0] = (unsigned char) (word >> 16);
		out[1] = (unsigned char) (word >> 8);
		out[2] = (unsigned char) word;
	}
	word = 0;
	for (size_t i = 0; i < len; i++)
	{
		if (base64_value[p[i]] == 0)
			return -1;
		word |= (uint32_t) (base64_value[p[i]] - 1) << (18 - 6 * i);
	}
	for (size_t i = 1; i < len; i++)
		*out++ = (unsigned char) (word >> (24 - 8 * i));
	return (long) (out - start);
}
