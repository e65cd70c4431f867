import Testing

@testable import SwiftNets

@Test func `a thread count out of range is refused by name`() {
  #expect(throws: EngineError.invalidArgument("threads is 0; it must be from 1 to 64")) {
    try Threads.set(0)
  }
}
