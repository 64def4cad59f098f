/*
 * test_stream_address.c
 *	  Private addresses in all their spellings.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/address.h"

static bool
is_private(const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return mr_private_address((struct sockaddr *) &in);
	if (inet_pton(AF_INET6, text, &in6.sin6_addr) != 1)
		abort();
	return mr_private_address((struct sockaddr *) &in6);
}

int
main(void)
{
	static const char *const private[] = {
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.168.1.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.1.2.3",
		"64:ff9b::a00:1", "2002:7f00:1::", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1"
	};
	static const char *const public[] = {
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.167.255.255",
		"198.17.255.255", "198.20.0.1", "223.255.255.255", "2600::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"
	};
	struct sockaddr local = {.sa_family = AF_UNIX};

	for (size_t i = 0; i < sizeof(private) / sizeof(*private); i++)
		ok(is_private(private[i]), "%s is private", private[i]);
	for (size_t i = 0; i < sizeof(public) / sizeof(*public); i++)
		ok(!is_private(public[i]), "%s is not", public[i]);
	ok(mr_private_address(&local), "nor is any other family let through");
	return done_testing();
}
