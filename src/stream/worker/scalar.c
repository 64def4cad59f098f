/*
 * scalar.c
 *	  Numbers, timestamps, UTF-8 and CRC-32C.  See scalar.h, decode.h.
 *
 * A float costs about 20 ns: its digits are gathered into an integer, scaled in
 * double, and only where that cannot decide the rounding does strtof() run.
 */
#include "stream/worker/scalar.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stream/worker/decode.h"

static const double powers[] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
	1e18, 1e19, 1e20, 1e21, 1e22
};

#define MAX_POWER 22			/* the last power of ten that a double holds exactly */

static inline bool
is_digit(char c)
{
	return (unsigned char) (c - '0') < 10;
}

const char *
kfk_scan_number(const char *p, const char *end, kfk_number *number)
{
	uint64_t	mantissa = 0;
	int			exponent = 0;
	const char *digits;
	const char *point = NULL;

	number->start = p;
	number->negative = p < end && *p == '-';
	if (number->negative)
		p++;
	digits = p;
	while (p < end && is_digit(*p))
		mantissa = mantissa * 10 + (uint64_t) (*p++ - '0');
	if (p == digits || (*digits == '0' && p - digits > 1))
		return NULL;
	number->whole = true;
	if (p < end && *p == '.')
	{
		point = ++p;
		while (p < end && is_digit(*p))
			mantissa = mantissa * 10 + (uint64_t) (*p++ - '0');
		if (p == point)
			return NULL;
		exponent = (int) (point - p);
		number->whole = false;
	}

	/* Up to 19 significant digits fit; zeros in front are not significant. */
	number->exact = p - digits <= 19;
	if (!number->exact)
	{
		const char *d = digits;

		while (d < p && (*d == '0' || *d == '.'))
			d++;
		number->exact = p - d - (point > d) <= 19;
	}

	if (p < end && (*p == 'e' || *p == 'E'))
	{
		bool		minus = false;
		int			e = 0;
		const char *first;

		p++;
		if (p < end && (*p == '+' || *p == '-'))
			minus = *p++ == '-';
		for (first = p; p < end && is_digit(*p); p++)
			e = e < 100000 ? e * 10 + (*p - '0') : e;
		if (p == first)
			return NULL;
		exponent += minus ? -e : e;
		number->whole = false;
	}
	number->mantissa = mantissa;
	number->exponent = exponent;
	number->len = (size_t) (p - number->start);
	return p;
}

/* The C library's conversion, for what the fast ways leave. */
static double
slow_parse(const kfk_number *number, bool single)
{
	char		buffer[128];
	char	   *copy = number->len < sizeof(buffer) ? buffer : malloc(number->len + 1);
	double		value;

	if (copy == NULL)
		return NAN;
	memcpy(copy, number->start, number->len);
	copy[number->len] = '\0';
	value = single ? (double) strtof(copy, NULL) : strtod(copy, NULL);
	if (copy != buffer)
		free(copy);
	return value;
}

kfk_rounding
kfk_to_float4(const kfk_number *number, float *out)
{
	double		d;
	uint64_t	bits;

	if (number->exact && number->exponent >= -MAX_POWER && number->exponent <= MAX_POWER)
	{
		/*
		 * Two roundings at most, so d is within two units of its last place
		 * (2^-51) of the true value, and rounding d to float rounds the true
		 * value too unless a midpoint between two floats is as near.
		 */
		d = (double) number->mantissa;
		d = number->exponent < 0 ? d / powers[-number->exponent] : d * powers[number->exponent];
		memcpy(&bits, &d, sizeof(bits));
		if (number->mantissa == 0 ||
			((bits & 0x1fffffff) - (0x10000000 - 4) > 8 && d >= FLT_MIN && d < (double) FLT_MAX))
		{
			*out = number->negative ? -(float) d : (float) d;
			return KFK_ROUNDED;
		}
	}
	d = slow_parse(number, true);
	*out = (float) d;
	return isfinite(d) ? KFK_ROUNDED : KFK_OUT_OF_RANGE;
}

kfk_rounding
kfk_to_float8(const kfk_number *number, double *out)
{
	double		d;

	/* Both operands exact, one rounding (Clinger 1990). */
	if (number->exact && number->mantissa <= UINT64_C(1) << 53 &&
		number->exponent >= -MAX_POWER && number->exponent <= MAX_POWER)
	{
		d = (double) number->mantissa;
		d = number->exponent < 0 ? d / powers[-number->exponent] : d * powers[number->exponent];
		*out = number->negative ? -d : d;
		return KFK_ROUNDED;
	}
	*out = slow_parse(number, false);
	return isfinite(*out) ? KFK_ROUNDED : KFK_OUT_OF_RANGE;
}

kfk_rounding
kfk_to_int8(const kfk_number *number, int64_t *out)
{
	uint64_t	m = number->mantissa;
	int			e = number->exponent;

	/* 19 digits at most, so m is below 10^19 and has not wrapped. */
	if (!number->exact)
		return number->whole ? KFK_OUT_OF_RANGE : KFK_NOT_WHOLE;
	for (; e < 0 && m != 0; e++, m /= 10)
		if (m % 10 != 0)
			return KFK_NOT_WHOLE;
	for (; e > 0 && m != 0; e--)
		if (__builtin_mul_overflow(m, 10, &m))
			return KFK_OUT_OF_RANGE;
	if (m > (uint64_t) INT64_MAX + number->negative)
		return KFK_OUT_OF_RANGE;
	*out = number->negative ? (int64_t) (0 - m) : (int64_t) m;
	return KFK_ROUNDED;
}

/* Two or four digits, or -1. */
static int
digits_at(const char *p, int n)
{
	int			value = 0;

	for (int i = 0; i < n; i++)
	{
		if (!is_digit(p[i]))
			return -1;
		value = value * 10 + (p[i] - '0');
	}
	return value;
}

/* Days from 2000-01-01 of a Gregorian date (Howard Hinnant, days_from_civil). */
static int64_t
days_since_2000(int y, int m, int d)
{
	int			era,
				yoe,
				doy;

	y -= m <= 2;
	era = y / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return (int64_t) era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 730425;
}

bool
kfk_timestamp(const char *text, size_t len, int64_t *out)
{
	static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	const char *p = text,
			   *end = text + len;
	int			year,
				month,
				day,
				hour,
				minute,
				second = 0,
				offset = 0;
	int64_t		micros = 0;

	if (len < 17 || p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ') || p[13] != ':')
		return false;
	year = digits_at(p, 4);
	month = digits_at(p + 5, 2);
	day = digits_at(p + 8, 2);
	hour = digits_at(p + 11, 2);
	minute = digits_at(p + 14, 2);
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days[month - 1] ||
		(month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0))) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59)
		return false;
	p += 16;
	if (end - p >= 3 && *p == ':')
	{
		second = digits_at(p + 1, 2);
		if (second < 0 || second > 59)
			return false;
		p += 3;
		if (p < end && *p == '.')
		{
			int			unit = 100000;

			/* Past the microseconds the input function rounds. */
			for (p++; p < end && is_digit(*p); p++, unit /= 10)
			{
				if (unit == 0)
					return false;
				micros += (*p - '0') * unit;
			}
			if (unit == 100000)
				return false;
		}
	}
	if (p == end)
		return false;
	if (*p == 'Z' && p + 1 == end)
		p++;
	else if ((*p == '+' || *p == '-') && end - p >= 3)
	{
		bool		west = *p == '-';
		int			h = digits_at(p + 1, 2),
					m = 0;

		p += 3;
		if (p < end)
		{
			p += *p == ':';
			if (end - p != 2)
				return false;
			m = digits_at(p, 2);
			p += 2;
		}
		if (h < 0 || h > 15 || m < 0 || m > 59)
			return false;
		offset = (h * 60 + m) * (west ? -60 : 60);
	}
	if (p != end)
		return false;
	*out = (days_since_2000(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) * 1000000 + micros;
	return true;
}

uint32_t
kfk_crc32c(uint32_t crc, const void *data, size_t len)
{
	static uint32_t table[256];
	const unsigned char *p = data;

	if (table[1] == 0)
		for (uint32_t i = 0; i < 256; i++)
		{
			uint32_t	c = i;

			for (int k = 0; k < 8; k++)
				c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
			table[i] = c;
		}
	crc = ~crc;
	while (len-- > 0)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return ~crc;
}
