#!/usr/bin/perl
# Milters of others that edit and judge: OpenDMARC behind OpenDKIM,
# MIMEDefang, and one on Python's libmilter that does what it's told.  What
# each asks for arrives; what happens when it is gone, and comes back.
use strict;
use warnings;
use Millgate::Milters;
use Millgate::Peers;
use Millgate::Test;
use Test::More;
use Time::HiRes qw(sleep);

my ($key, $record) = dkim_key('rsa', 2048);
my $keys = write_file('keys', 'sel._domainkey.sender.test ' .
    ($record =~ s/" "|"//gr) . "\n");
my $opendmarc = start_opendmarc(dns => <<'END');
_dmarc.sender.test v=DMARC1; p=reject; adkim=s
_dmarc.held.test v=DMARC1; p=quarantine
END
my $mimedefang = start_mimedefang(<<'END');
sub filter_sender {
	my ($sender) = @_;
	return ('REJECT', 'MIMEDefang knows you', 553, '5.7.9')
	    if $sender =~ /banned/;
	return ('CONTINUE', 'ok');
}
sub filter {
	my ($entity, $name, $extension, $type) = @_;
	return action_bounce('No programs, please', 554, '5.7.8')
	    if $extension eq '.exe';
	return action_discard() if $extension eq '.tmp';
	return action_drop() if $extension eq '.dat';
	return action_accept();
}
sub filter_end {
	my ($entity) = @_;
	return if message_rejected();
	action_add_header('X-MIMEDefang', 'seen');
	action_change_header('Subject', '[checked] ' . $Subject);
	action_delete_header('X-Secret', 2);
	action_delete_header('X-Secret', 1);
	append_text_boilerplate($entity, "-- \nan own line", 1);
	return unless $Subject =~ /route/;
	delete_recipient('<bob@example.test>');
	add_recipient('<carol@example.test>');
	change_sender('<md@sender.test>');
}
1;
END
my $pymilter = start_pymilter();
my $opendkim = start_opendkim(name => 'opendkim', key => $key, mode => 'v',
    domain => 'other.test', selector => 'sel', port => free_port(),
    more => "AuthservID mx.example.test\nTestPublicKeys $keys\n");

my %listener = (dmarc => 'opendkim, opendmarc',
    wrong => 'opendmarc, opendkim', mimedefang => 'mimedefang',
    python => 'pymilter', lenient => 'pylenient',
    both => 'mimedefang, pymilter');
my %port = map { $_ => free_port() } keys %listener;

my $gate = start_millgate(text => <<"END" . join '', map { <<"LISTENER" }
gateways = 1
trusted_networks = { "127.0.0.0/8" }
relay_domains = { example.test }
dns_forwarders = { "127.0.0.1\@9" }
dns_timeout = 100ms
route "*" { via = { "maildir:\@DIR\@/mail" } }
milter opendkim { endpoint = { "$opendkim->{endpoint}" } }
milter opendmarc { endpoint = { "$opendmarc->{endpoint}" } }
milter mimedefang { endpoint = { "$mimedefang->{endpoint}" } }
milter pymilter { endpoint = { "$pymilter->{endpoint}" } }
milter pylenient {
	endpoint = { "$pymilter->{endpoint}" }
	default_action = accept
	allow = { add_header }
}
END
listener $_ {
	address = { "127.0.0.1:$port{$_}" }
	hostname_lookup = no
	filters = { $listener{$_} }
}
LISTENER
    sort keys %listener);
ready($opendmarc, $mimedefang, $pymilter);

sub through {
	my ($listener, %options) = @_;
	return pass_through($gate, $port{$listener}, %options);
}

# Sends a message that asks the Python milter for these.
sub told {
	my ($tests, %options) = @_;
	my $listener = delete $options{listener} // 'python';
	my $data = delete $options{data} // message();

	return through($listener, %options, data =>
	    join('', map { "X-Test: $_\r\n" } @$tests) . $data);
}

# The values of all fields of that name, unfolded, from top to bottom.
sub fields {
	my ($mail, $name) = @_;
	my ($header) = $mail =~ /\A(.*?)\r?\n\r?\n/s;

	$header =~ s/\r?\n([ \t])/$1/g;
	return $header =~ /^\Q$name\E:[ \t]*(.*?)\r?$/mgi;
}

sub body {
	my ($mail) = @_;
	$mail =~ s/\A.*?\r?\n\r?\n//s;
	$mail =~ s/\r\n/\n/g;
	return $mail;
}

sub signed {
	my (%fields) = @_;
	return dkim_python(message(%fields), 'sign', $key,
	    'rsa-sha256', 'sel', 'sender.test');
}

# --- OpenDKIM and OpenDMARC ---

subtest 'OpenDMARC reads what OpenDKIM found' => sub {
	my ($reply, $id, $mail) = through('dmarc', data => signed());
	my @results = fields($mail, 'Authentication-Results');

	like($reply, qr/^250 /, 'a signed message: accepted');
	is(scalar(grep { /mx\.example\.test;\s+dkim=pass/ } @results), 1,
	    'OpenDKIM tells') or diag($mail);
	is(scalar(grep { /dmarc=pass .*header\.from=sender\.test/ }
	    @results), 1, 'OpenDMARC tells');
	like($results[0], qr/dmarc=pass/, 'the later one stands above');

	($reply) = through('dmarc', data => signed() =~ s/a test/a best/r);
	like($reply, qr/^550 5\.7\.1 rejected by DMARC policy for sender\.test/,
	    'a broken signature: refused in its own words');
	($reply) = through('dmarc');
	like($reply, qr/^550 5\.7\.1 /, 'no signature: refused');
};

subtest 'a forged result doesn\'t reach OpenDMARC' => sub {
	my ($reply) = through('dmarc', data => 'Authentication-Results: ' .
	    "mx.example.test; dkim=pass header.d=sender.test\r\n" .
	    message());

	like($reply, qr/^550 5\.7\.1 /, 'refused all the same');
};

subtest 'the order matters' => sub {
	my ($reply) = through('wrong', data => signed());

	like($reply, qr/^550 5\.7\.1 /,
	    'OpenDMARC before OpenDKIM finds no result');
};

subtest 'OpenDMARC has a message held' => sub {
	my ($reply, $id, $mail) = through('dmarc',
	    data => message(From => 'a@held.test'), from => 'a@held.test');

	like($reply, qr/^250 /, 'the client hears 250');
	is($mail, undef, 'nothing is delivered');
	$gate->logs(qr/$id: from=.*\(hold\)/, 'it is held');
	$gate->tells([ 'queue', 'show', $id ], qr/DMARC|quarantine/i,
	    'the queue shows the reason');
};

# --- MIMEDefang ---

subtest 'MIMEDefang edits' => sub {
	my ($reply, $id, $mail) = through('mimedefang', data =>
	    "X-Secret: one\r\nX-Secret: two\r\n" . message(
	    'MIME-Version' => '1.0', 'Content-Type' => 'text/plain',
	    body => "Hello,\r\n..\r\nworld\r\n"));

	like($reply, qr/^250 /, 'accepted');
	is_deeply([ fields($mail, 'X-MIMEDefang') ], [ 'seen' ],
	    'a field is added');
	is_deeply([ fields($mail, 'Subject') ], [ '[checked] test' ],
	    'the subject is changed');
	is_deeply([ fields($mail, 'X-Secret') ], [],
	    'both fields of a name are deleted');
	like(body($mail), qr/\AHello,\n\.\.\nworld\n+-- \nan own line\n\z/,
	    'the body is the new one');
	is_deeply([ recipients($gate, $id) ], [ 'bob@example.test' ],
	    'the recipient stays');
};

subtest 'what MIMEDefang sends with bare LF is relayed with CRLF' => sub {
	my ($reply, $id, $mail) = through('both', data =>
	    "X-Test: add X-Last here\r\n" . message());

	like($reply, qr/^250 /, 'the next milter takes it');
	is_deeply([ fields($mail, 'X-Last') ], [ 'here' ], 'and edits, too');
	my ($file) = grep { read_file($_) =~ /X-Last: here/ }
	    glob "$gate->{dir}/mail/new/*";
	my $text = read_file($file);
	my $bare = () = $text =~ /(?<!\r)\n/g;
	my $whole = () = $text =~ /\r\n/g;
	# A maildir has one or the other.
	ok($bare == 0 || $whole == 0, 'line ends are all alike') or
	    diag("$bare bare, $whole whole");
	unlike($text, qr/\r(?!\n)/, 'no CR is left over');
};

subtest 'MIMEDefang changes the envelope' => sub {
	my ($reply, $id, $mail) = through('mimedefang',
	    data => message(Subject => 'route'));

	is_deeply([ recipients($gate, $id) ], [ 'carol@example.test' ],
	    'another recipient');
	is_deeply([ fields($mail, 'Return-Path') ], [ '<md@sender.test>' ],
	    'another sender');
};

subtest 'MIMEDefang judges' => sub {
	my $with = sub {
		my ($name) = @_;
		return message('MIME-Version' => '1.0', 'Content-Type' =>
		    'multipart/mixed; boundary=b', body => <<"END" =~
--b
Content-Type: text/plain

Hello
--b
Content-Type: application/octet-stream; name="$name"
Content-Disposition: attachment; filename="$name"

PROGRAM
--b--
END
		    s/\n/\r\n/gr);
	};
	my ($reply, $id, $mail) = through('mimedefang',
	    from => 'banned@sender.test');
	like($reply, qr/^553 5\.7\.9 MIMEDefang knows you/,
	    'a sender is refused at MAIL');

	($reply) = through('mimedefang', data => $with->('a.exe'));
	like($reply, qr/^554 5\.7\.8 No programs, please/,
	    'a program is refused');

	($reply, $id, $mail) = through('mimedefang', data => $with->('a.tmp'));
	like($reply, qr/^250 /, 'a message is discarded: 250');
	is($mail, undef, 'and not delivered');

	($reply, $id, $mail) = through('mimedefang', data => $with->('a.dat'));
	like($reply, qr/^250 /, 'a part is dropped: 250');
	unlike($mail, qr/PROGRAM/, 'and is gone');
	like($mail, qr/^Hello/m, 'the other is there');
};

# --- Python ---

subtest 'header edits of libmilter' => sub {
	my ($reply, $id, $mail) = told([ 'add X-Added two words',
	    'insert 0 X-First top', 'insert 1 X-Below under',
	    'change Subject 1 another', 'change X-Twice 2 changed',
	    'delete X-Gone 1', 'change X-New 1 made',
	    "change To 1 Bob\n\t<bob\@example.test>" =~ s/\n\t/ /r ],
	    data => "X-Twice: a\r\nX-Twice: b\r\nX-Gone: bye\r\n" .
	    "X-Gone: stays\r\n" . message());

	like($reply, qr/^250 /, 'accepted');
	is_deeply([ fields($mail, 'X-Added') ], [ 'two words' ], 'added');
	is_deeply([ fields($mail, 'Subject') ], [ 'another' ], 'changed');
	is_deeply([ fields($mail, 'X-Twice') ], [ 'a', 'changed' ],
	    'the second of a name changed');
	is_deeply([ fields($mail, 'X-Gone') ], [ 'stays' ], 'deleted');
	is_deeply([ fields($mail, 'X-New') ], [ 'made' ],
	    'a field that was not there is made');
	like($mail, qr/^X-First: top\r?\n(?:.*\n(?:[ \t].*\n)*)?X-Below: /m,
	    'inserted at the top, and below it');
	like($mail, qr/^X-First: .*^Received: /ms, 'above our Received');
};

subtest 'body and envelope edits of libmilter' => sub {
	my ($reply, $id, $mail) = told([ 'body one\ntwo\n.\nthree',
	    'rcpt <carol@example.test>', 'norcpt <bob@example.test>',
	    'rcpt <dave@example.test>',
	    'from <else@sender.test>' ], to => [ 'bob@example.test',
	    'erin@example.test' ]);

	like($reply, qr/^250 /, 'accepted');
	is(body($mail), "one\ntwo\n.\nthree\n", 'the body is the new one');
	is_deeply([ recipients($gate, $id) ], [ 'carol@example.test',
	    'dave@example.test', 'erin@example.test' ],
	    'recipients came and went');
	is_deeply([ fields($mail, 'Return-Path') ], [ '<else@sender.test>' ],
	    'the sender is another');
};

subtest 'verdicts of libmilter' => sub {
	my ($reply) = told([ 'add X-Not kept',
	    'reply 554 5.7.3 first line|100%% second|third' ]);
	like($reply, qr/^554-5\.7\.3\ first\ line\r\n
	    554-5\.7\.3\ 100%\ second\r\n554\ 5\.7\.3\ third[^\r\n]*\r\n\z/x,
	    'a refusal of three lines');

	($reply) = told([ 'reply 452 4.2.9 not now' ]);
	like($reply, qr/^452 4\.2\.9 not now/, 'a temporary one');
	($reply) = told([ 'tempfail' ]);
	like($reply, qr/^451 4\.7\.1 /, 'one without words');

	my $client = new_smtp(port => $port{python});
	$client->command('EHLO client.sender.test');
	$client->command('MAIL FROM:<alice@sender.test>');
	like($client->command('RCPT TO:<refused@example.test>'),
	    qr/^550-5\.1\.1 Nobody.*\r\n550 5\.1\.1 that, 100% sure/,
	    'a recipient is refused in two lines');
	like($client->command('RCPT TO:<bob@example.test>'), qr/^250 /,
	    'another is taken');
	$client->close;

	my ($id, $mail);
	($reply, $id, $mail) = told([ 'discard' ]);
	like($reply, qr/^250 /, 'discard: 250');
	is($mail, undef, 'discard: not delivered');

	($reply, $id, $mail) = told([ 'add X-Kept yes',
	    'quarantine smells of fish' ]);
	like($reply, qr/^250 /, 'quarantine: 250');
	is($mail, undef, 'quarantine: not delivered');
	$gate->tells([ 'queue', 'show', $id ], qr/smells of fish/,
	    'quarantine: the reason is shown');
	is(($gate->ctl('queue', 'release', $id))[0], 0,
	    'quarantine: released');
	$gate->wait_log(qr/$id: removed/);
	is(scalar(grep { /^X-Kept: yes/m } mailbox("$gate->{dir}/mail")), 1,
	    'quarantine: then delivered, with its edits');

	($reply, $id, $mail) = told([ 'add X-Kept before', 'accept',
	    'add X-Not after' ]);
	is_deeply([ map { fields($mail, $_) } 'X-Kept', 'X-Not' ],
	    [ 'before' ], 'accept: what came before is kept');
};

subtest 'a milter that may only add' => sub {
	my ($reply, $id, $mail) = told([ 'add X-Added yes',
	    'change Subject 1 no', 'norcpt <bob@example.test>',
	    'body no\n', ], listener => 'lenient');

	is_deeply([ fields($mail, 'X-Added') ], [ 'yes' ], 'adds');
	is_deeply([ fields($mail, 'Subject') ], [ 'test' ],
	    'changes nothing');
	like(body($mail), qr/^Hello/, 'replaces nothing');
	is_deeply([ recipients($gate, $id) ], [ 'bob@example.test' ],
	    'removes nobody');
};

# --- gone, and back ---

# Each: the peer, a listener that tempfails without it, one that accepts.
for my $case ([ $pymilter, 'python', 'lenient' ],
    [ $opendmarc, 'dmarc' ], [ $mimedefang, 'mimedefang' ]) {
	my ($peer, $strict, $lenient) = @$case;

	subtest "without $peer->{name}" => sub {
		my ($reply, $id, $mail);
		my %message = (data => signed());

		$peer->kill;
		($reply) = through($strict, %message);
		like($reply, qr/^451 4\.7\.1 /, 'the client shall come again');
		if ($lenient) {
			($reply, $id, $mail) = through($lenient, %message);
			like($reply, qr/^250 /, 'where configured, accepted');
			ok(defined $mail, 'and delivered');
		}
		$peer->run;
		ready($peer);
		wait_for("$peer->{name} to be asked again", sub {
			($reply) = through($strict, %message);
			return 1 if $reply =~ /^250 /;
			sleep 0.2;
			return 0;
		}, 10);
		like($reply, qr/^250 /, 'it is back');
	};
}

$_->kill for $pymilter, $opendmarc, $mimedefang, @{ $mimedefang->{behind} };
is($gate->stop, 0, 'stops well');
ok(sanitizers_silent($gate->log), 'sanitizers are silent');
done_testing;
