/*
 * io_listen_pg.c
 *	  Listening sockets, the certificate, and taking connections.
 *
 * All of it is waited for through one epoll, which has libmicrohttpd's in it, too.  While there are as many
 * connections as there may be, the listening sockets are not looked at: more wait in their queues.
 */
#include "postgres.h"

#include "gateway/worker/io_pg.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "core/failpoint.h"

#define SPARE_FILES 200			/* for what the server itself opens */
#define TAKE_AT_ONCE 64
#define TROUBLE_US 200000		/* without new connections, after there was no descriptor for one */

static int	everything = -1;	/* epoll */
static int	sockets[GW_MAX_LISTEN];
static bool listening;
static int64 trouble_until;

/* A socket that listens; -1: errno says why not. */
static int
open_socket(const gw_listen *l)
{
	struct sockaddr_storage addr = {0};
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &addr;
	struct sockaddr_in *v4 = (struct sockaddr_in *) &addr;
	bool		any = strcmp(l->address, "*") == 0;
	int			one = 1,
				none = 0;
	int			fd;

	if (any || inet_pton(AF_INET6, l->address, &v6->sin6_addr) == 1)
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16) l->port);
		if (any)
			v6->sin6_addr = in6addr_any;
	}
	else
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16) l->port);
		(void) inet_pton(AF_INET, strcmp(l->address, "localhost") == 0 ? "127.0.0.1" : l->address, &v4->sin_addr);
	}
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 && any)
	{
		/* no IPv6 here */
		memset(&addr, 0, sizeof(addr));
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16) l->port);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -1;
	(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (addr.ss_family == AF_INET6)
		(void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &none : &one, sizeof(int));
	if (bind(fd, (struct sockaddr *) &addr, addr.ss_family == AF_INET6 ? sizeof(*v6) : sizeof(*v4)) != 0 || listen(fd, 1024) != 0)
	{
		int			save_errno = errno;

		close(fd);
		errno = save_errno;
		return -1;
	}
	return fd;
}

static void
watch(int op, int fd, uint32 events, uint64 what)
{
	struct epoll_event event = {.events = events,.data.u64 = what};

	if (epoll_ctl(everything, op, fd, &event) != 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("epoll_ctl() failed: %m")));
}

void
gwi_listen_open(void)
{
	struct rlimit files;
	int			n = gwi_set.listens;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < (rlim_t) gwi_set.connections + SPARE_FILES)
	{
		files.rlim_cur = Min(files.rlim_max, (rlim_t) gwi_set.connections + SPARE_FILES);
		(void) setrlimit(RLIMIT_NOFILE, &files);
	}
	for (int i = 0; i < n; i++)
		if ((sockets[i] = open_socket(&gwi_set.listen[i])) < 0)
		{
			int			save_errno = errno;

			for (int j = 0; j < i; j++)
				close(sockets[j]);
			gwi_not_now("cannot listen on %s, port %d: %s", gwi_set.listen[i].address, gwi_set.listen[i].port, strerror(save_errno));
		}
	everything = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < n; i++)
		watch(EPOLL_CTL_ADD, sockets[i], EPOLLIN, (uint64) i);
	watch(EPOLL_CTL_ADD, gwi_http_fd(), EPOLLIN, GW_MAX_LISTEN);
	listening = true;
}

int
gwi_listen_fd(void)
{
	return everything;
}

static uint64
hash_of(const struct sockaddr_storage *addr)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) addr;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) addr;

	/* a host has a whole /64 of IPv6 */
	if (addr->ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return hash_bytes_extended((const unsigned char *) &v6->sin6_addr, 8, 0);
	if (addr->ss_family == AF_INET6)
		return hash_bytes_extended((const unsigned char *) &v6->sin6_addr + 12, 4, 0);
	return hash_bytes_extended((const unsigned char *) &v4->sin_addr, 4, 0);
}

static bool
too_many_of(uint64 address)
{
	int			n = 0;
	gwi_conn   *conn;

	if (gwi_set.per_address == 0)
		return false;
	TAILQ_FOREACH(conn, &gwi_conns, node)
		n += conn->address == address;
	return n >= gwi_set.per_address;
}

static void
take_from(int listener)
{
	for (int n = 0; n < TAKE_AT_ONCE && gwi_n_conns < gwi_set.connections; n++)
	{
		struct sockaddr_storage addr;
		socklen_t	len = sizeof(addr);
		int			one = 1;
		uint64		address;
		int			fd = accept4(sockets[listener], (struct sockaddr *) &addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
		{
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			{
				static int64 said;

				trouble_until = gwi_now_us() + TROUBLE_US;
				if (said == 0 || gwi_now_us() - said > 60 * USECS_PER_SEC)
					ereport(LOG, (errmsg("gateway: could not accept a connection: %m")));
				said = gwi_now_us();
			}
			return;
		}
		address = hash_of(&addr);
		if (too_many_of(address))
		{
			close(fd);
			continue;
		}
		(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		gwi_http_take(fd, (struct sockaddr *) &addr, len, listener, address);
	}
}

void
gwi_listen_take(void)
{
	struct epoll_event events[GW_MAX_LISTEN + 1];
	bool		room = gwi_n_conns < gwi_set.connections && gwi_now_us() >= trouble_until;
	int			n;

	if (room != listening)
	{
		for (int i = 0; i < gwi_set.listens; i++)
			watch(EPOLL_CTL_MOD, sockets[i], room ? EPOLLIN : 0, (uint64) i);
		listening = room;
	}
	if (!room)
		return;
	MR_FAILPOINT("gateway.accept");
	n = epoll_wait(everything, events, lengthof(events), 0);
	for (int i = 0; i < n; i++)
		if (events[i].data.u64 < GW_MAX_LISTEN)
			take_from((int) events[i].data.u64);
}

/*
 * A file that a setting names, whole.  A key must be the server's own, and nobody else's to read, as the
 * server itself asks of its key.
 */
char *
gwi_read_file(const char *setting, bool secret)
{
	const char *name = GetConfigOption(setting, false, false);
	char	   *path = is_absolute_path(name) ? pstrdup(name) : psprintf("%s/%s", DataDir, name);
	struct stat st;
	char	   *text;
	FILE	   *file;
	size_t		len;

	if (stat(path, &st) != 0)
		gwi_not_now("could not access %s \"%s\": %m", setting, name);
	if (!S_ISREG(st.st_mode) || st.st_size > 1024 * 1024)
		gwi_not_now("%s \"%s\" is not a regular file of at most 1 MB", setting, name);
	if (secret && st.st_uid != geteuid() && st.st_uid != 0)
		gwi_not_now("%s \"%s\" must be owned by the database user or root", setting, name);
	if (secret && (st.st_mode & (st.st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO) : (S_IRWXG | S_IRWXO))))
		gwi_not_now("%s \"%s\" has group or world access: chmod u=rw (0600), or 0640 where root owns it", setting, name);
	file = AllocateFile(path, "r");
	if (file == NULL)
		gwi_not_now("could not read %s \"%s\": %m", setting, name);
	text = palloc(st.st_size + 1);
	len = fread(text, 1, st.st_size, file);
	text[len] = '\0';
	FreeFile(file);
	return text;
}
