import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { beforeEach, describe, test } from 'node:test';
import { OverlayDevice } from '../../src/backend/device.js';
import type { DeviceFamily, LinkControl } from '../../src/backend/device.js';
import { Repairs } from '../../src/backend/repairs.js';
import { FlannelError } from '../../src/errors.js';
import type { Cidr } from '../../src/address.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import type { Ip6 } from '../../src/ip6.js';
import type { Address, HostNetwork, HostNetwork6, Link, RouteEntry } from '../../src/netlink/rtnetlink.js';
import { captureLog } from '../lib/store.js';

const ADDRESS = new Cidr4(0x0af42100, 32); // 10.244.33.0
const NETWORK = new Cidr4(0x0af40000, 16);
const MTU = 1472;
const INDEX = 7;
const GSO_MAX_SIZE = 44 * (MTU - 60);

/** As much of a kernel as one device needs: what it is told shows in what it says. */
class FakeKernel implements LinkControl {
  link: Link | null = {
    index: INDEX,
    name: 'flannel0',
    mtu: 1500,
    up: false,
    running: false,
    gsoMaxSize: 65536,
    queueLength: 500,
    tun: null,
    ipv6: { disabled: false, linkLocal: true },
  };
  addresses: Address[] = [];
  routes: RouteEntry[] = [];
  v6: { addresses: Address<Ip6>[]; routes: RouteEntry<Ip6>[] } & HostNetwork6 = { addresses: [], routes: [] };
  /** errno names of what is refused. */
  refused = new Map<keyof LinkControl, string>();

  state(): HostNetwork {
    const { link, addresses, routes, v6 } = this;
    return { links: link === null ? [] : [link], addresses, routes, v6 };
  }
  bringUp(_: number, mtu: number): void {
    this.ask('bringUp');
    this.set({ mtu, up: true });
  }
  set(more: Partial<Link>): void {
    this.link = { ...this.present(), ...more };
  }
  setDown(): void {
    this.set({ up: false });
    this.routes = this.routes.filter(({ linkIndex }) => linkIndex !== INDEX);
    this.v6 = { addresses: [], routes: [] };
  }
  setQueueLength(_: number, queueLength: number): void {
    this.set({ queueLength });
  }
  setGsoMaxSize(_: number, gsoMaxSize: number): void {
    this.ask('setGsoMaxSize');
    this.set({ gsoMaxSize });
  }
  allowIpv6(): void {
    const { ipv6 } = this.present();
    this.set({ ipv6: ipv6 && { ...ipv6, disabled: false } });
  }
  omitLinkLocal(): void {
    const { ipv6 } = this.present();
    this.set({ ipv6: ipv6 && { ...ipv6, linkLocal: false } });
  }
  addAddress(linkIndex: number, { ip, length }: Cidr): void {
    this.ask('addAddress');
    const common = { linkIndex, length, scope: 0, flags: 0x80 };
    if (typeof ip === 'number') this.addresses.push({ ...common, ip });
    else if (this.present().ipv6?.disabled === false) this.v6.addresses.push({ ...common, ip });
    else throw refusal('EACCES');
  }
  addRoute({ ip, length }: Cidr, linkIndex: number): void {
    this.ask('addRoute');
    if (!this.present().up) throw refusal('ENETDOWN');
    const there = [...this.routes, ...this.v6.routes];
    if (there.some((route) => route.destination === ip && route.length === length)) throw refusal('EEXIST');
    if (typeof ip === 'number') this.routes.push({ destination: ip, length, linkIndex });
    else this.v6.routes.push({ destination: ip, length, linkIndex });
  }
  private ask(call: keyof LinkControl): void {
    const code = this.refused.get(call);
    if (code !== undefined) throw refusal(code);
  }
  private present(): Link {
    if (this.link === null) throw refusal('ENODEV');
    return this.link;
  }
}

function refusal(code: string): Error {
  const errno = constants.errno[code as keyof typeof constants.errno];
  return Object.assign(new Error('netlink request'), { errno, syscall: 'netlink request' });
}

let lines: string[];
let kernel: FakeKernel;
let device: OverlayDevice;
let time: number;

beforeEach(() => {
  lines = captureLog();
  kernel = new FakeKernel();
  time = 0;
  const settings = { name: 'flannel0', families: [{ address: ADDRESS, network: NETWORK }], mtu: MTU };
  device = new OverlayDevice(settings, new Repairs(() => time));
});

const reconcile = () => device.reconcile(kernel.state(), kernel);
const said = () =>
  lines.splice(0).map((line) => `${line.charAt(0)} ${line.replace(/^[^\]]*\] /, '').trim()}`);

function assertRight(): void {
  assert.deepEqual(
    [kernel.link?.mtu, kernel.link?.up, kernel.link?.gsoMaxSize],
    [device.mtu, true, GSO_MAX_SIZE],
  );
  assert.deepEqual(kernel.addresses, [
    { linkIndex: INDEX, ip: ADDRESS.ip, length: 32, scope: 0, flags: 0x80 },
  ]);
  assert.deepEqual(kernel.routes, [{ destination: NETWORK.ip, length: 16, linkIndex: INDEX }]);
}

describe('a new device', () => {
  test('gets address, MTU, state and route without a word', () => {
    device.configure(kernel.state(), kernel);
    assertRight();
    assert.deepEqual(said(), []);
  });

  test('that cannot be set up is an error with the remedy', () => {
    kernel.refused.set('addAddress', 'EPERM');
    assert.throws(() => {
      device.configure(kernel.state(), kernel);
    }, /^FlannelError: cannot set up the TUN device flannel0 \(.*\): CAP_NET_ADMIN is missing/);
  });

  test('that is not there is an error', () => {
    kernel.link = null;
    assert.throws(() => {
      device.configure(kernel.state(), kernel);
    }, FlannelError);
  });
});

describe('reconcile', () => {
  beforeEach(() => {
    device.configure(kernel.state(), kernel);
  });

  const set = (more: Partial<Link>) => () => {
    kernel.set(more);
  };
  const changes: [string, () => unknown, string][] = [
    ['address', () => (kernel.addresses = []), 'address 10.244.33.0/32'],
    ['route', () => (kernel.routes = []), 'route 10.244.0.0/16'],
    ['MTU', set({ mtu: 9000 }), 'MTU 1472'],
    [
      'state',
      () => {
        kernel.setDown();
      },
      'state up, route 10.244.0.0/16',
    ],
    ['super-packets', set({ gsoMaxSize: 65536 }), 'gso_max_size'],
    [
      'all routes and addresses',
      () => ([kernel.addresses, kernel.routes] = [[], []]),
      'address 10.244.33.0/32, route 10.244.0.0/16',
    ],
  ];
  for (const [name, change, restored] of changes) {
    test(`restores ${name} and says so in one line`, () => {
      change();
      assert.equal(reconcile(), true);
      assertRight();
      assert.deepEqual(said(), [`W flannel0 was changed by somebody; restored ${restored}`]);
      assert.equal(reconcile(), true);
      assert.deepEqual(said(), []);
    });
  }

  test('leaves what others have added', () => {
    const more = { linkIndex: INDEX, ip: 0x0a000001, length: 24, scope: 0, flags: 0x80 };
    kernel.addresses.push(more);
    assert.equal(reconcile(), true);
    assert.ok(kernel.addresses.includes(more));
    assert.deepEqual(said(), []);
  });

  test('leaves the route of somebody else, says so once, and takes its place when it is gone', () => {
    kernel.routes = [{ destination: NETWORK.ip, length: 16, linkIndex: 3 }];
    for (let i = 0; i < 20; i++) assert.equal(reconcile(), true);
    assert.deepEqual(said(), [
      'W there is another route to 10.244.0.0/16, so flannel0 gets no packets until that is deleted ' +
        '(`ip route del 10.244.0.0/16`)',
    ]);
    kernel.routes = [];
    assert.equal(reconcile(), true);
    assertRight();
  });

  test('of a refusal tells once, and asks to be repeated', () => {
    kernel.routes = [];
    kernel.refused.set('addRoute', 'EPERM');
    for (let i = 0; i < 20; i++) assert.equal(reconcile(), false);
    assert.deepEqual(said(), [
      'E cannot restore route 10.244.0.0/16 of flannel0, trying on: netlink request (EPERM)',
    ]);
    kernel.refused.clear();
    assert.equal(reconcile(), true);
    assertRight();
  });

  test('of a device that was deleted meanwhile says nothing', () => {
    kernel.setDown();
    const stale = kernel.state();
    kernel.link = null;
    assert.equal(device.reconcile(stale, kernel), false);
    assert.equal(reconcile(), false);
    assert.deepEqual(said(), []);
    assert.equal(device.isAmong(kernel.state().links), false);
  });

  test('ends a quarrel: ten times, then once a minute', () => {
    const quarrel = () => {
      kernel.routes = [];
      return reconcile();
    };
    for (let i = 0; i < 10; i++) assert.equal(quarrel(), true);
    assert.equal(said().length, 10);
    for (let i = 0; i < 5; i++) assert.equal(quarrel(), false);
    assert.deepEqual(said(), [
      'E something else keeps changing flannel0 (route 10.244.0.0/16): from now on that is set right once a minute ' +
        'at most; make the other program leave flannel0 alone',
    ]);
    kernel.addresses = [];
    assert.equal(reconcile(), false);
    assert.match(said().join(), /restored address/, 'other things are still mended');
    for (let minute = 1; minute <= 5; minute++) {
      time = minute * 60_000;
      assert.equal(quarrel(), true);
      assert.equal(quarrel(), false);
      assert.deepEqual(said(), ['W flannel0 was changed by somebody; restored route 10.244.0.0/16']);
    }
    time += 600_000;
    for (let i = 0; i < 10; i++) assert.equal(quarrel(), true);
  });
});

test('resize changes MTU and super-packets, and what is restored from then on', () => {
  device.configure(kernel.state(), kernel);
  device.resize(1372, kernel);
  assert.deepEqual([kernel.link?.mtu, kernel.link?.gsoMaxSize], [1372, 47 * (1372 - 60)]);
  assert.equal(reconcile(), true);
  assert.deepEqual(said(), []);
  kernel.refused.set('bringUp', 'EINVAL');
  assert.throws(() => {
    device.resize(1000, kernel);
  }, FlannelError);
  assert.equal(device.mtu, 1372);
});

describe('a device with IPv6', () => {
  const ADDRESS6 = new Cidr6('fd00:5:0:21::', 128);
  const NETWORK6 = new Cidr6('fd00:5::', 48);
  const V6 = { address: ADDRESS6, network: NETWORK6 };

  const make = (families: readonly DeviceFamily[]) => {
    const settings = { name: 'flannel0', families, mtu: MTU };
    device = new OverlayDevice(settings, new Repairs(), () => {
      kernel.allowIpv6();
    });
    kernel.set({ ipv6: { disabled: true, linkLocal: true } });
    device.configure(kernel.state(), kernel);
  };
  const assertRight6 = () => {
    assert.deepEqual(kernel.link?.ipv6, { disabled: false, linkLocal: false });
    assert.deepEqual(
      kernel.v6.addresses.map(({ ip, length }) => [ip, length]),
      [[ADDRESS6.ip, 128]],
    );
    assert.deepEqual(kernel.v6.routes, [{ destination: NETWORK6.ip, length: 48, linkIndex: INDEX }]);
  };

  test('beside IPv4 gets both, and both again from whoever takes them', () => {
    make([{ address: ADDRESS, network: NETWORK }, V6]);
    assertRight6();
    assert.deepEqual([kernel.addresses.length, kernel.routes.length], [1, 1]);
    kernel.setDown();
    assert.equal(reconcile(), true);
    assertRight6();
    assert.deepEqual(said(), [
      'W flannel0 was changed by somebody; restored state up, address fd00:5:0:21::/128, route 10.244.0.0/16, ' +
        'route fd00:5::/48',
    ]);
    kernel.set({ ipv6: { disabled: true, linkLocal: true } });
    assert.equal(reconcile(), true);
    assertRight6();
    assert.deepEqual(said(), [
      'W flannel0 was changed by somebody; restored disable_ipv6 0, addr_gen_mode none',
    ]);
  });

  test('alone has nothing of IPv4', () => {
    make([V6]);
    assertRight6();
    assert.deepEqual([kernel.addresses, kernel.routes], [[], []]);
  });
});
