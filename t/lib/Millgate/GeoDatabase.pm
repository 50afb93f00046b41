package Millgate::GeoDatabase;

# Writes databases in MaxMind's format, version 2.0, for tests: Debian has no
# program that does.  The same networks give the same bytes.

use strict;
use warnings;

use Exporter 'import';
use Socket qw(AF_INET AF_INET6 inet_pton);

our @EXPORT = qw(geo_database geo_countries geo_unit_databases);

# The control byte, the type's number if it is above 7, a size below 285.
sub head {
	my ($type, $size) = @_;
	my $first = $type > 7 ? 0 : $type << 5;
	my $more = $type > 7 ? chr($type - 7) : '';

	return $size < 29 ? chr($first | $size) . $more :
	    chr($first | 29) . $more . chr($size - 29);
}

# A number with the fewest bytes.
sub number {
	my ($type, $value) = @_;
	my $bytes = pack 'Q>', $value;

	$bytes =~ s/\A\0+//;
	return head($type, length $bytes) . $bytes;
}

# A map, a list, a number (32 bits), a text; a reference to a text is put as it
# is, so that it may be as wrong as a test wants.
sub encode {
	my ($value) = @_;

	return $$value if ref $value eq 'SCALAR';
	return head(7, scalar keys %$value) . join '', map {
	    head(2, length $_) . $_ . encode($value->{$_}) }
	    sort keys %$value if ref $value eq 'HASH';
	return head(11, scalar @$value) . join '', map { encode($_) } @$value
	    if ref $value eq 'ARRAY';
	return number(6, $value) if $value =~ /\A\d+\z/;
	return head(2, length $value) . $value;
}

# The network's bits, in a tree of 128 bits: IPv4 is ::/96.
sub bits {
	my ($network) = @_;
	my ($address, $length) = split m{/}, $network;
	my $v6 = $address =~ /:/;
	my $bytes = inet_pton($v6 ? AF_INET6 : AF_INET, $address) //
	    die "$network: no network";

	$bytes = "\0" x 12 . $bytes unless $v6;
	return substr unpack('B*', $bytes), 0, $length + ($v6 ? 0 : 96);
}

# A node of the tree is [node or record or undef, the same], a record the text
# of it.  A longer network wins over a shorter one.
sub insert {
	my ($node, $bits, $record) = @_;
	my @sides = split //, $bits;
	my $last = pop @sides;

	for my $side (@sides) {
		$node->[$side] = [ ($node->[$side]) x 2 ]
		    unless ref $node->[$side];
		$node = $node->[$side];
	}
	$node->[$last] = $record;
}

# geo_database(type => 'Test-ASN', networks => { '192.0.2.0/24' =>
# { autonomous_system_number => 64500 }, ... }): its bytes.
sub geo_database {
	my (%options) = @_;
	my $networks = $options{networks};
	my (@nodes, %offset);
	my $root = [];
	my $data = '';

	insert($root, bits($_), encode($networks->{$_}))
	    for sort { length bits($a) <=> length bits($b) || $a cmp $b }
	    keys %$networks;
	my @open = ($root);
	my %index = ($root => 0);
	while (my $node = shift @open) {
		push @nodes, $node;
		for my $child (grep { ref } @$node) {
			$index{$child} = @nodes + @open;
			push @open, $child;
		}
	}
	my $tree = join '', map {
		my $node = $_;
		map {
			my $child = $node->[$_];
			my $value = @nodes;	# nothing is known
			if (ref $child) {
				$value = $index{$child};
			} elsif (defined $child) {
				$offset{$child} //= do {
					$data .= $child;
					length($data) - length $child;
				};
				$value = @nodes + 16 + $offset{$child};
			}
			substr pack('N', $value), 1;
		} 0, 1;
	} @nodes;
	my %metadata = (node_count => \number(6, scalar @nodes),
	    record_size => \number(5, 24), ip_version => \number(5, 6),
	    database_type => $options{type}, languages => [ 'en' ],
	    binary_format_major_version => \number(5, 2),
	    binary_format_minor_version => \number(5, 0),
	    build_epoch => \number(9, 1795000000),
	    description => { en => 'for tests' });
	return $tree . "\0" x 16 . $data . "\xab\xcd\xefMaxMind.com" .
	    encode(\%metadata);
}

# geo_countries('192.0.2.0/24' => 'DE', ...): a database that tells these.
sub geo_countries {
	my (%codes) = @_;
	return geo_database(type => 'Test-Country', networks => {
	    map { $_ => { country => { iso_code => $codes{$_} } } }
	    keys %codes });
}

# The files of t/unit/policy, by name, which
# perl -I t/lib -MMillgate::GeoDatabase -e 'geo_unit_databases("t/unit/policy")'
# wrote: ASes and countries as the makers of databases tell them, and damage.
sub geo_unit_databases {
	my ($directory) = @_;
	my $damaged = \"\x38\xff\xff\xff\xff";	# see far behind the end
	my %files = ('asn.mmdb' => geo_database(type => 'Test-ASN',
	    networks => {
		'192.0.0.0/16' => { autonomous_system_number => 64499 },
		'192.0.2.0/24' => { autonomous_system_number => 64500,
		    autonomous_system_organization => 'Example' },
		'203.0.113.0/24' => { autonomous_system_number => 64500 },
		'198.51.100.0/24' => { autonomous_system_number => 4200000001 },
		'2001:db8::/32' => { asn => 'AS64502' },
		'100.64.0.0/24' => $damaged,
		'100.64.1.0/24' => { autonomous_system_number => 'many' },
		'100.64.2.0/24' => { asn => 'AS64x' },
		'100.64.3.0/24' => { asn => 'AS99999999999' },
	    }), 'country.mmdb' => geo_database(type => 'Test-Country',
	    networks => {
		'192.0.2.0/24' => { country => { iso_code => 'DE' },
		    registered_country => { iso_code => 'US' } },
		'198.51.100.0/24' => { registered_country =>
		    { iso_code => 'FR' } },
		'203.0.113.0/24' => { country_code => 'NL',
		    country => 'Netherlands' },
		'2001:db8::/32' => { country => 'at' },
		'100.64.0.0/24' => $damaged,
		'100.64.1.0/24' => { country => { iso_code => 'D1' } },
		'100.64.2.0/24' => { continent => { code => 'EU' } },
		'100.64.3.0/24' => { country => { iso_code => $damaged } },
		map({ ("198.18.$_.0/24" => { country => { iso_code =>
		    (qw(ES IT PL NG BR IN US CN))[$_] } }) } 0 .. 7),
	    }));

	for my $name (defined $directory ? sort keys %files : ()) {
		open my $file, '>:raw', "$directory/$name" or
		    die "$directory/$name: $!";
		print $file $files{$name};
		close $file or die "$directory/$name: $!";
	}
	return %files;
}

1;
