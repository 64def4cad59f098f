/*
 * utf8.c
 *	  See utf8.h.  Well-formed byte sequences: Unicode 15, table 3-7.
 */
#include "core/utf8.h"

#include <stdint.h>
#include <string.h>

bool
mr_utf8(const char *data, size_t len)
{
	const unsigned char *p = (const unsigned char *) data;
	const unsigned char *end = p + len;

	while (p < end)
	{
		unsigned char c = *p;

		if (end - p >= 8)
		{
			uint64_t	word;

			/* Eight bytes of ASCII, none of them zero? */
			memcpy(&word, p, 8);
			if (((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0)
			{
				p += 8;
				continue;
			}
		}
		if (c < 0x80)
		{
			if (c == 0)
				return false;
			p++;
		}
		else if (c >= 0xc2 && c <= 0xdf)
		{
			if (end - p < 2 || (p[1] & 0xc0) != 0x80)
				return false;
			p += 2;
		}
		else if (c >= 0xe0 && c <= 0xef)
		{
			if (end - p < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 ||
				(c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f))
				return false;
			p += 3;
		}
		else if (c >= 0xf0 && c <= 0xf4)
		{
			if (end - p < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80 ||
				(c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
				return false;
			p += 4;
		}
		else
			return false;
	}
	return true;
}
