# A next hop that does as it is told, for what no real one can be made to do.
#
#	sink.pl PORT DIRECTORY
#
# DIRECTORY/replies holds lines "EHLO|MAIL|RCPT|DATA|END|CONNECT reply", read at
# each command; a reply "close" hangs up, "\r\n" in it makes several lines.
# Written are DIRECTORY/commands (a line each), DIRECTORY/connections (a byte
# each) and DIRECTORY/message.* (the bytes after 354, dot-stuffed as they came).

use strict;
use warnings;

use IO::Socket::INET;

my ($port, $dir) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 500,
    LocalPort => $port, Proto => 'tcp', ReuseAddr => 1) or die "listen: $!";
my %children;

sub append {
	my ($name, $text) = @_;

	open my $file, '>>:raw', "$dir/$name" or die;
	syswrite $file, $text;
	close $file;
}

# The reply told for a verb, or the default.
sub told {
	my ($verb, $default) = @_;
	my $reply = $default;

	if (open my $file, '<', "$dir/replies") {
		while (<$file>) {
			$reply = $1 if /^\Q$verb\E (.*)$/;
		}
		close $file;
	}
	exit 0 if $reply eq 'close';
	return $reply =~ s/\\r\\n/\r\n/gr;
}

sub reply {
	my ($client, $verb, $default) = @_;
	my $reply = told($verb, $default);

	syswrite $client, "$reply\r\n";
	return $reply =~ /^[23]/;
}

sub take_message {
	my ($client, $in) = @_;

	until ($$in =~ /(?:\A|\r\n)\.\r\n/) {
		sysread $client, $$in, 65536, length $$in or exit 0;
	}
	my ($message) = $$in =~ /\A(.*?(?:\A|\r\n))\.\r\n/s;
	substr $$in, 0, length($message) + 3, '';
	append("part.$$", $message);
	my $reply = told('END', '250 2.0.0 kept');
	if ($reply =~ /^2/) {
		rename "$dir/part.$$", "$dir/message.$$." . $main::count++;
	} else {
		unlink "$dir/part.$$";
	}
	syswrite $client, "$reply\r\n";
}

our $count = 0;
sub serve {
	my ($client) = @_;
	my ($in, $sender, $recipients) = ('', 0, 0);
	my %default = (EHLO => '250-sink\r\n250-PIPELINING\r\n250 8BITMIME',
	    DATA => '354 go on', QUIT => '221 bye');

	append('connections', '.');
	reply($client, 'CONNECT', '220 sink ESMTP') or exit 0;
	while (1) {
		until ($in =~ /\r\n/) {
			sysread $client, $in, 65536, length $in or exit 0;
		}
		my ($line) = $in =~ /\A(.*?)\r\n/;
		substr $in, 0, length($line) + 2, '';
		my $verb = uc substr $line, 0, 4;
		append('commands', "$line\n");
		# These may be pipelined behind what was refused.
		if (($verb eq 'RCPT' && !$sender) ||
		    ($verb eq 'DATA' && !$recipients)) {
			syswrite $client, "503 5.5.1 out of order\r\n";
			next;
		}
		my $good = reply($client, $verb, $default{$verb} // '250 ok');
		$recipients = 0 if $verb =~ /^(?:MAIL|RSET|EHLO|DATA)$/;
		$sender = $verb eq 'MAIL' && $good
		    if $verb =~ /^(?:MAIL|RSET|EHLO|DATA)$/;
		$recipients++ if $verb eq 'RCPT' && $good;
		exit 0 if $verb eq 'QUIT';
		take_message($client, \$in) if $verb eq 'DATA' && $good;
	}
}

$SIG{TERM} = sub { kill 'KILL', keys %children; exit 0 };
$SIG{CHLD} = sub {
	while ((my $pid = waitpid -1, 1) > 0) {
		delete $children{$pid};
	}
};
while (1) {
	my $client = $listener->accept or next;
	my $pid = fork;
	if ($pid == 0) {
		$SIG{TERM} = $SIG{CHLD} = 'DEFAULT';
		close $listener;
		serve($client);
	}
	$children{$pid} = 1;
	close $client;
}
