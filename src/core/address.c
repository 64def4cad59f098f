/*
 * address.c
 *	  Which addresses a server that no superuser vouches for may not name.
 *
 * Asked about the resolved address, just before connecting to it: names that
 * resolve differently the second time, odd spellings and brokers' own metadata
 * all end here.  Runs in librdkafka's threads, and in callbacks of libcurl.
 */
#include "core/address.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Is ip (host order) within net/bits? */
static bool
within(uint32_t ip, uint32_t net, int bits)
{
	return (ip ^ net) >> (32 - bits) == 0;
}

static bool
private_v4(uint32_t ip)
{
	return within(ip, 0x00000000, 8) || within(ip, 0x0a000000, 8) || within(ip, 0x64400000, 10) ||
		within(ip, 0x7f000000, 8) || within(ip, 0xa9fe0000, 16) || within(ip, 0xac100000, 12) ||
		within(ip, 0xc0000000, 24) || within(ip, 0xc0a80000, 16) || within(ip, 0xc6120000, 15) || ip >= 0xe0000000;
}

bool
mr_private_address(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return private_v4(ntohl(in.sin_addr.s_addr));
	}
	if (address->sa_family == AF_INET6)
	{
		static const unsigned char zeros[12];
		struct sockaddr_in6 in6;
		const unsigned char *b;
		uint32_t	tail;

		memcpy(&in6, address, sizeof(in6));
		b = in6.sin6_addr.s6_addr;
		memcpy(&tail, b + 12, 4);
		tail = ntohl(tail);
		/* IPv4 in IPv6: mapped, compatible (:: and ::1 among them), translated, 6to4. */
		if (memcmp(b, zeros, 10) == 0 && ((b[10] == 0xff && b[11] == 0xff) || (b[10] == 0 && b[11] == 0)))
			return (b[10] == 0 && tail <= 1) || private_v4(tail);
		if (b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b)
			return private_v4(tail);
		if (b[0] == 0x20 && b[1] == 0x02)
			return private_v4((uint32_t) b[2] << 24 | (uint32_t) b[3] << 16 | (uint32_t) b[4] << 8 | b[5]);
		return (b[0] & 0xfe) == 0xfc || b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0x80) == 0x80);
	}
	return true;
}
