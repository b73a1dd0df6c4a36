// CGImage -> (label, probability), best first, by LiteRT on the GPU, or on the CPU without one

import CoreGraphics
import Foundation
import TensorFlowLite

/// For files of `--input-type float32`.
final class LiteRTClassifier {
    let usesGPU: Bool  // for logs
    private let model: ModelFile
    private let interpreter: Interpreter

    init(model: ModelFile) throws {
        self.model = model
        // Without Metal, as in the simulator, or if it fails to compile, the GPU's throws.
        let onGPU = try? Self.interpreter(of: model, delegates: [MetalDelegate()])
        usesGPU = onGPU != nil
        interpreter = try onGPU ?? Self.interpreter(of: model, delegates: nil)
    }

    private static func interpreter(of model: ModelFile, delegates: [Delegate]?) throws
        -> Interpreter
    {
        let interpreter = try Interpreter(modelPath: model.path, delegates: delegates)
        try interpreter.allocateTensors()
        return interpreter
    }

    func classify(_ image: CGImage) throws -> [(label: String, probability: Float)] {
        guard let pixels = model.pixels(of: image) else { return [] }
        try interpreter.copy(pixels, toInputAt: 0)  // the one input, `images`
        try interpreter.invoke()
        let output = try interpreter.output(at: 0).data  // the one output, `probabilities`
        let probabilities = output.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return zip(model.labels, probabilities).map { (label: $0, probability: $1) }
            .sorted { $0.probability > $1.probability }
    }
}
