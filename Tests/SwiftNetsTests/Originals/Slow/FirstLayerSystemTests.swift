import Glibc
import Testing

@testable import SwiftNets

@Suite struct FirstLayerSystemTests {
  /// A member that saw the stop for the next step before another had seen this one's left that one waiting for ever.
  @Test func `solves that are stopped at random end, with more threads than cores`() throws {
    let net = TwoLayerPerceptron(insize: 9, hidsize: 7, outsize: 5)
    let samples = 20
    let xs = try Matrix<Double>.normal(samples, net.insize, seed: 1)
    let ys = try Matrix<Double>.normal(samples, net.outsize, seed: 2)
    let pass = try TwoLayerPass(net: net, samples: samples)
    pass.load(
      w1: try .normal(net.insize, net.hidsize, scale: 0.3, seed: 3),
      w2: try .normal(net.hidsize, net.outsize, scale: 0.3, seed: 4))
    ThreadTeam.run(parts: 1) { member in
      pass.forward(xs, ys, member: member)
      pass.backward(member: member)
      pass.gradients(xs, member: member)
    }
    let system = try FirstLayerSystem<Double>(net: net, samples: samples, threads: 5)
    let solution: Matrix<Double> = try .padded(net.insize, net.hidsize)
    var random = SeededGenerator(seed: 5)
    var (done, stopped) = (0, 0)
    alarm(300)  // ends the process where a solve does not end
    defer { alarm(0) }
    let end = ContinuousClock.now + .seconds(2)
    // On a busy machine for longer, until each has happened.
    while ContinuousClock.now < end || done == 0 || stopped == 0, done + stopped < 5000 {
      try system.load(pass, xs, damping: 1e-3, Interruption())
      var patience = random.next() % 4 == 0 ? Int.max : Int(random.next() % 200)
      do throws(EngineError) {
        _ = try system.solve(
          pass.dw1, norm: 1, tolerance: 1e-10, limit: 60, adding: solution,
          Interruption {
            patience -= 1
            return patience < 0
          })
        done += 1
      } catch {
        #expect(error == .cancelled)
        stopped += 1
      }
    }
    #expect(done > 0 && stopped > 0)
  }
}
