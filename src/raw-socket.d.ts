/** The part of raw-socket that is used here; the package ships no types. */
declare module 'raw-socket' {
  export interface Socket {
    on(event: 'message', listener: (packet: Buffer, source: string) => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    setOption(level: number, option: number, value: number): void;
    send(
      buffer: Buffer,
      offset: number,
      length: number,
      address: string,
      before: () => void,
      done: (error: Error | null) => void,
    ): this;
    close(): this;
  }
  const raw: {
    readonly Protocol: { readonly ICMP: number; readonly ICMPv6: number };
    readonly AddressFamily: { readonly IPv4: number; readonly IPv6: number };
    createSocket(options: { protocol: number; addressFamily: number; bufferSize: number }): Socket;
    createChecksum(...parts: readonly Buffer[]): number;
    writeChecksum(buffer: Buffer, offset: number, checksum: number): Buffer;
  };
  export default raw;
}
